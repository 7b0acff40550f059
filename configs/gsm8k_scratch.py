"""GSM8K from scratch: a small model learns the solutions' form, then step-level PPO makes its calculations hold.

The process reward of a step is whether its `<<expr=value>>` notes hold; the graded answer is a second stream with a
critic of its own. No language model is loaded: a byte-level BPE and a million parameters are trained on train.jsonl.

Meant for about twenty minutes on two CPU cores; not measured yet. Needs train.jsonl and test.jsonl of
github.com/openai/grade-school-math.

    stepjax quickstart --config=gsm8k_scratch --config.task.gsm8k=data/gsm8k --workdir=runs/gsm8k
"""

from stepjax.options import recipe, stream


def get_config():
    config = recipe()
    config.stages = ("sft", "ppo")
    config.task.name = "gsm8k"
    config.tokenizer.vocab = 1024

    config.model.layers = 4
    config.model.width = 128
    config.model.heads = 4
    config.model.kv_heads = 2
    config.model.head_dim = 32
    config.model.mlp = 384
    config.model.unroll = 4

    config.sft.updates = 600
    config.sft.rows = 16
    config.sft.row_tokens = 512
    config.sft.optimizer.lr = 3e-3

    config.ppo.iterations = 40
    config.ppo.prompts = 96
    config.ppo.prompt_tokens = 128
    config.ppo.max_new_tokens = 224
    config.ppo.streams = {
        "calculation": stream(signal="verifier", horizon="step", lam=0.95, weight=1.0),
        "outcome": stream(signal="outcome", horizon="response", lam=1.0, weight=0.5, bad=0.0),
    }
    config.eval.problems = 256
    return config

"""GSM8K from scratch: a small model learns the format of solutions, then step-level PPO makes its calculations hold.

The process reward of a step is whether its `<<expr=value>>` calculations hold. The graded answer is a second stream
with its own critic; a third stream penalises truncated responses. No language model is loaded: a byte-level BPE and 0.8
million parameters are trained on train.jsonl. Needs train.jsonl and test.jsonl of github.com/openai/grade-school-math.

    stepjax quickstart --config=gsm8k_scratch --config.task.gsm8k=data/gsm8k --workdir=runs/gsm8k

The policy games this check: `<<1=1>>` holds. `--config=gsm8k_scratch:works` rewards a step only if its calculations
hold and are neither trivial nor repeated.
"""

from stepjax.options import recipe, stream


def get_config(pay="holds"):
    config = recipe()
    config.stages = ("sft", "ppo")
    config.task.name = "gsm8k"
    config.tokenizer.vocab = 1024

    config.model.layers = 3
    config.model.width = 128
    config.model.heads = 4
    config.model.kv_heads = 2
    config.model.head_dim = 32
    config.model.mlp = 384
    config.model.unroll = 3
    config.model.rope_theta = 1000.0

    config.sft.updates = 1100
    config.sft.rows = 6
    config.sft.row_tokens = 512
    config.sft.optimizer.lr = 3e-3
    config.sft.optimizer.b2 = 0.99
    config.sft.optimizer.weight_decay = 0.1
    config.sft.log_every = 50
    config.sft.checkpoint_every = 550

    config.ppo.iterations = 24
    config.ppo.prompts = 96
    config.ppo.prompt_tokens = 128
    config.ppo.max_new_tokens = 192
    config.ppo.epochs = 1
    config.ppo.minibatches = 6
    config.ppo.policy.lr = 4e-4
    config.ppo.policy.schedule = "linear"
    config.ppo.kl = 0.02
    config.ppo.samples_every = 10
    # Wrong calculations cost nothing: otherwise a weak policy learns not to calculate. Credit stays within the step, so
    # the policy would never write the line of the answer, which is not a calculation, if truncation had no cost.
    notes = {
        "holds": stream(signal="verifier", horizon="step", lam=0.95, neutral=0.0, bad=0.0),
        "works": stream(signal="function", function="stepjax.tasks.gsm8k:worked_calculations", lam=0.95),
    }
    if pay not in notes:
        raise ValueError(f"{pay!r}: the calculations to reward are those that " + " or ".join(notes))
    config.ppo.streams = {
        "calculation": notes[pay],
        "outcome": stream(signal="outcome", horizon="response", lam=1.0, weight=0.5, bad=0.0),
        "finish": stream(signal="finish", horizon="response", lam=1.0, weight=2.0, good=0.0, bad=-1.0, critic=False),
    }
    config.eval.problems = 300
    return config

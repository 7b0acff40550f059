"""MATH with a policy, a critic and a process reward model of 7B each, for 256 v5e chips.

    stepjax plan --config=math_7b --topology=v5e:16x16
    stepjax quickstart --config=math_7b:Qwen/Qwen2.5-7B --config.prm.data=data/prm800k --workdir=runs/math_7b

Planned, not run: `docs/plan.md` has the plan. The Hugging Face folder or hub name of the initial policy follows the
colon; without it, the same shape starts from random parameters. MATH's problems are read from data/math, one JSON
object a line; the reward model learns from step labels that `stepjax data` wrote.
"""

from stepjax.options import recipe, stream


def get_config(start=""):
    config = recipe()
    config.task.name = "math"
    config.task.separator = "\n\n"
    config.task.math.train = "data/math/train.jsonl"
    config.task.math.test = "data/math/test.jsonl"
    config.stages = ("sft", "prm", "ppo")

    if start:
        config.model.path = start
    else:  # Qwen2.5-7B
        config.model.vocab = 152_064
        config.model.layers = 28
        config.model.width = 3584
        config.model.heads = 28
        config.model.kv_heads = 4
        config.model.head_dim = 128
        config.model.mlp = 18_944
        config.model.rope_theta = 1e6
        config.model.qkv_bias = True
        config.model.qk_norm = False
    config.model.dtype = "bfloat16"
    config.model.remat = True
    config.mesh.data = 1
    config.mesh.fsdp = 64
    config.mesh.tensor = 4

    config.sft.updates = 300
    config.sft.rows = 128
    config.sft.row_tokens = 2048
    config.sft.optimizer.lr = 1e-5
    config.prm.data = "data/prm800k"
    config.prm.updates = 1000
    config.prm.rows = 128
    config.prm.row_tokens = 2048
    config.prm.optimizer.lr = 2e-6

    config.ppo.iterations = 200
    config.ppo.prompts = 256
    config.ppo.samples = 4
    config.ppo.prompt_tokens = 512
    config.ppo.max_new_tokens = 1536
    config.ppo.epochs = 1
    config.ppo.minibatches = 4
    config.ppo.policy.lr = 1e-6
    config.ppo.critic.lr = 5e-6
    config.ppo.kl = 0.005
    config.ppo.streams = {
        "process": stream(signal="prm", horizon="step", lam=0.95),
        "outcome": stream(signal="outcome", horizon="response", lam=1.0, bad=0.0),
    }
    config.eval.rows = 256
    return config

"""GSM8K with a policy of Qwen2.5-0.5B's shape, over all devices. Not run on accelerators yet.

    stepjax quickstart --config=gsm8k_qwen05b:Qwen/Qwen2.5-0.5B --config.task.gsm8k=data/gsm8k --workdir=runs/qwen05b

The Hugging Face folder or hub name of the initial policy follows the colon. Without it, the same shape starts from
random parameters.
"""

from stepjax.options import recipe, stream


def get_config(start=""):
    config = recipe()
    config.task.name = "gsm8k"
    config.stages = ("sft", "ppo")

    if start:
        config.model.path = start
    else:
        config.model.vocab = 151_936
        config.model.layers = 24
        config.model.width = 896
        config.model.heads = 14
        config.model.kv_heads = 2
        config.model.head_dim = 64
        config.model.mlp = 4864
        config.model.rope_theta = 1e6
        config.model.qkv_bias = True
        config.model.qk_norm = False
        config.model.tied = True
    config.model.dtype = "bfloat16"
    config.model.remat = True
    config.mesh.data = 1
    config.mesh.fsdp = -1

    config.sft.updates = 400
    config.sft.rows = 16
    config.sft.row_tokens = 1024
    config.sft.optimizer.lr = 1e-5

    config.ppo.iterations = 100
    config.ppo.prompts = 128
    config.ppo.prompt_tokens = 256
    config.ppo.max_new_tokens = 384
    config.ppo.epochs = 1
    config.ppo.minibatches = 8
    config.ppo.policy.lr = 1e-6
    config.ppo.critic.lr = 5e-6
    config.ppo.kl = 0.01
    config.ppo.streams = {
        "calculation": stream(signal="verifier", horizon="step", lam=0.95, neutral=0.0, bad=-1.0),
        "outcome": stream(signal="outcome", horizon="response", lam=1.0, bad=0.0),
    }
    config.eval.rows = 128
    return config

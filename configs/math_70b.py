"""MATH with a policy, a critic and a process reward model of 70B each (Llama 3's shape), for 128 v5p chips.

    stepjax plan --config=math_70b --topology=v5p:4x4x8
    stepjax quickstart --config=math_70b:FOLDER --config.prm.data=data/prm800k --workdir=runs/math_70b

Planned, not run: `docs/plan.md` has the plan. FOLDER is the Hugging Face checkpoint of the initial policy; without it,
the same shape starts from random parameters. Everything else is as in math_7b.
"""

import runpy
from pathlib import Path


def get_config(start=""):
    config = runpy.run_path(str(Path(__file__).with_name("math_7b.py")))["get_config"](start)
    if not start:  # Llama 3 70B
        config.model.vocab = 128_256
        config.model.layers = 80
        config.model.width = 8192
        config.model.heads = 64
        config.model.kv_heads = 8
        config.model.head_dim = 128
        config.model.mlp = 28_672
        config.model.rope_theta = 5e5
        config.model.qkv_bias = False
    config.mesh.fsdp = 16
    config.mesh.tensor = 8

    config.sft.rows = 64
    config.prm.rows = 64
    config.ppo.prompts = 128
    config.ppo.policy.lr = 5e-7
    config.ppo.critic.lr = 2e-6
    config.ppo.minibatches = 8
    return config

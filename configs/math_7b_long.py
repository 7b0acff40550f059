"""MATH with long reasoning: 7B models, responses of up to 16,384 tokens, for 64 v5p or 256 v5e chips.

    stepjax plan --config=math_7b_long --topology=v5p:4x4x4
    stepjax plan --config=math_7b_long:v5e --topology=v5e:16x16
    stepjax quickstart --config=math_7b_long:v5p:Qwen/Qwen2.5-7B --config.prm.data=data/prm800k --workdir=runs/long

Planned, not run: `docs/plan.md` has the plans. Packed rows of 32,768 tokens are cut over `mesh.context`; the layers'
inputs wait in the memory of the host until the backward pass. A round has 512 responses; the key-value cache has room
for them at 3,000 tokens each. The checkpoint of the initial policy follows the chips; without it, the same shape starts
from random parameters. Everything else is as in math_7b.
"""

import runpy
from pathlib import Path

CHIPS = {
    "v5p": {"fsdp": 4, "tensor": 4, "context": 4},
    "v5e": {"fsdp": 16, "tensor": 4, "context": 4},
}


def get_config(chips="v5p"):
    chips, _, start = chips.partition(":")
    if chips not in CHIPS:
        raise ValueError(f"no mesh for {chips!r}; there are those for " + ", ".join(CHIPS))
    config = runpy.run_path(str(Path(__file__).with_name("math_7b.py")))["get_config"](start)
    config.model.remat_policy = "offload"
    for axis, size in CHIPS[chips].items():
        config.mesh[axis] = size

    config.sft.rows = 16
    config.sft.row_tokens = 32_768
    config.prm.rows = 16
    config.prm.row_tokens = 32_768

    config.ppo.iterations = 100
    config.ppo.prompts = 128
    config.ppo.samples = 4
    config.ppo.max_new_tokens = 16_384
    config.ppo.cache_tokens = 131_072
    config.ppo.row_tokens = 32_768
    config.ppo.micro_tokens = 8192
    config.ppo.minibatches = 2
    return config

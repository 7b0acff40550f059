"""What a decode step reads on a TPU by the plan: the weights and the tokens that rows hold; no blocks are copied."""

import re
from collections import Counter

import jax
import pytest
from plan.planned import Compiled, compile_programs, config_of

from stepjax.models.blocks import PAIRS
from stepjax.plan.cost import module_cost
from stepjax.plan.hlo_text import parse

PAGE, HEADS, DIM, LAYERS, SLOTS, PROMPT, NEW = 128, 4, 64, 24, 8, 192, 8192

SIZES = (
    "model.dtype=bfloat16",
    "model.width=2048",
    "model.heads=16",
    f"model.kv_heads={HEADS}",
    f"model.head_dim={DIM}",
    "model.mlp=8192",
    f"model.layers={LAYERS}",
    "model.vocab=4096",
    "model.tied=True",
    "mesh.tensor=1",
    f"ppo.prompts={4 * SLOTS}",
    f"ppo.prompt_tokens={PROMPT}",
    f"ppo.max_new_tokens={NEW}",
)


@pytest.mark.slow
@pytest.mark.usefixtures("libtpu")
def test_a_decode_step_reads_weights_and_the_tokens_that_rows_hold(tmp_path):
    from stepjax.chips import open_topology

    run, found = compile_programs(config_of(tmp_path, *SIZES), open_topology("v5e:2x2").devices, "rollout")
    rollout = found["rollout"]
    _, steps, pair_turns = rollout.planned.trips
    one, none = (
        module_cost(rollout.module, unknown_trips=(1, n, pair_turns), in_turn=True) for n in (steps, steps - 1)
    )
    weights = 2 * sum(leaf.size for leaf in jax.tree.leaves(run.policy.shapes))
    token = LAYERS * HEADS * 2 * DIM * 2
    held = SLOTS * ((PROMPT - 1) // PAGE * PAGE + NEW / 2)
    assert pair_turns * PAIRS == pytest.approx(held / PAGE, abs=PAIRS) and token * held > 0.2 * weights
    assert one.bytes - none.bytes == pytest.approx(weights + held * token, rel=0.15)
    # Twice the pairs are twice the tokens, and nothing else.
    twice = module_cost(rollout.module, unknown_trips=(1, steps, pair_turns + 1), in_turn=True)
    assert twice.bytes - one.bytes == pytest.approx(steps * PAIRS * PAGE * token, rel=0.01)
    assert twice.flops - one.flops == pytest.approx(steps * LAYERS * PAIRS * PAGE * 16 * 4 * DIM, rel=0.01)
    made = made_of_blocks(rollout)
    assert made["fusion of scatter"] and not {opcode for opcode in made if opcode not in WRITTEN}, made


WRITTEN = ("scatter", "fusion of scatter", "broadcast", "fusion of broadcast")
"""What makes blocks: writing to some of them in place, and the empty ones."""


def made_of_blocks(rollout: Compiled) -> Counter[str]:
    """What the instructions are whose results are all the blocks, of keys or of values."""
    told = re.search(r"([\d,]+) blocks", rollout.planned.program.note)
    assert told is not None
    shape, found = (LAYERS, int(told[1].replace(",", "")), HEADS), Counter[str]()
    passed = {"parameter", "get-tuple-element", "bitcast", "while", "tuple", "conditional", "opt-barrier"}
    for computation in rollout.module.computations.values():
        for i in computation.instructions.values():
            if i.opcode not in passed and any(a.dims[:3] == shape for a in i.arrays):
                inner = i.called("calls") if i.opcode == "fusion" else []
                found[" of ".join([i.opcode, *(rollout.module.computations[name].root.opcode for name in inner)])] += 1
    return found


KERNEL = """ENTRY %main (e: s32[4]) -> f32[4,2,3,64] {
  %e = s32[4] parameter(0)
  %b = s32[96] parameter(1)
  %p = s32[96] parameter(2)
  %q = bf16[4,2,3,64] parameter(3)
  %k = s8[5,70,2,64,128] parameter(4)
  %v = s8[5,70,2,64,128] parameter(5)
  %s = f32[5,70,2,128] parameter(6)
  %z = s32[1] parameter(7)
  %block_attention.7 = (f32[4,2,3,128], f32[4,2,3,64]) custom-call(%e, %b, %p, %e, %z, %q, %k, %v, %s, %s), x="tpu"
  ROOT %o = f32[4,2,3,64] get-tuple-element(%block_attention.7), index=1
}
"""


@pytest.mark.parametrize("turns, pairs", [(2, 32), (100, 96)])
def test_the_kernel_reads_its_pairs_and_no_more_than_there_can_be(turns, pairs):
    cost = module_cost(parse(KERNEL), unknown_trips=(9, 9, turns))
    around = 4 * (4 + 96 + 96 + 4 + 1) + 2 * 4 * 2 * 3 * 64 + 4 * 4 * 2 * 3 * (128 + 64)
    assert cost.bytes == pytest.approx(around + pairs * 2 * (2 * 64 * 128 + 4 * 2 * 128))
    assert cost.flops == pairs * 4 * 2 * 3 * 64 * 128 and cost.opaque == 0

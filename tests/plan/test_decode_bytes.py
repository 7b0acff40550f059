"""What the plan says that a decode step reads on a TPU: the weights and the tokens that rows hold; no blocks are copied."""

import re

import jax
import pytest
from plan.planned import compile_programs, config_of

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
def test_a_decode_step_reads_weights_and_the_tokens_that_rows_hold(tmp_path):
    pytest.importorskip("libtpu")
    from stepjax.chips import open_topology

    run, found = compile_programs(config_of(tmp_path, *SIZES), open_topology("v5e:2x2").devices, "rollout")
    rollout = found["rollout"]
    turns, steps, pair_turns = rollout.planned.trips
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
    copied = 0
    blocks = re.search(r"([\d,]+) blocks", rollout.planned.program.note)
    assert blocks is not None
    shape = (LAYERS, int(blocks[1].replace(",", "")), HEADS)
    for computation in rollout.module.computations.values():
        for i in computation.instructions.values():
            if any(a.dims[:3] == shape for a in i.arrays):
                copied += i.opcode.startswith("copy") or i.opcode in ("transpose", "reshape")
                assert {DIM, PAGE} == set(i.arrays[0].dims[3:]) or i.opcode in ("while", "tuple", "conditional"), i.name
    assert not copied and rollout.memory.temp_size_in_bytes > 0


KERNEL = """ENTRY %main (e: s32[4]) -> f32[4,2,3,64] {
  %e = s32[4] parameter(0)
  %b = s32[96] parameter(1)
  %p = s32[96] parameter(2)
  %q = bf16[4,2,3,64] parameter(3)
  %k = s8[5,70,2,64,128] parameter(4)
  %v = s8[5,70,2,64,128] parameter(5)
  %s = f32[5,70,2,128] parameter(6)
  %z = s32[1] parameter(7)
  %block_attention.7 = (f32[4,2,3,128], f32[4,2,3,64]) custom-call(%e, %b, %p, %e, %z, %q, %k, %v, %s, %s), custom_call_target="tpu_custom_call"
  ROOT %o = f32[4,2,3,64] get-tuple-element(%block_attention.7), index=1
}
"""


@pytest.mark.parametrize("turns, pairs", [(2, 32), (100, 96)])
def test_the_kernel_reads_its_pairs_and_no_more_than_there_can_be(turns, pairs):
    cost = module_cost(parse(KERNEL), unknown_trips=(9, 9, turns))
    around = 4 * (4 + 96 + 96 + 4 + 1) + 2 * 4 * 2 * 3 * 64 + 4 * 4 * 2 * 3 * (128 + 64)
    assert cost.bytes == pytest.approx(around + pairs * 2 * (2 * 64 * 128 + 4 * 2 * 128))
    assert cost.flops == pairs * 4 * 2 * 3 * 64 * 128 and cost.opaque == 0

"""The walk over compiled text: loops as often as they turn, matrix products, collectives, kernels' own figures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stepjax.parallel import make_mesh, named_sharding
from stepjax.plan.cost import group_size, module_cost
from stepjax.plan.hlo_text import arrays_of, parse

NESTED = """HloModule nested

%inner (p: (s32[], f32[8,16])) -> (s32[], f32[8,16]) {
  %p = (s32[], f32[8,16]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x = f32[8,16]{1,0} get-tuple-element(%p), index=1
  %w = f32[16,16]{1,0} constant({...})
  %d = f32[8,16]{1,0} dot(%x, %w), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  %r = f32[8,16]{1,0} all-reduce(%d), channel_id=1, replica_groups=[2,4]<=[8], to_apply=%add
  ROOT %t = (s32[], f32[8,16]{1,0}) tuple(%i, %r)
}

%small (q: (s32[], f32[8,16])) -> pred[] {
  %q = (s32[], f32[8,16]{1,0}) parameter(0)
  %j = s32[] get-tuple-element(%q), index=0
  %n = s32[] constant(5)
  ROOT %less = pred[] compare(%j, %n), direction=LT
}

%outer (s: (s32[], f32[8,16])) -> (s32[], f32[8,16]) {
  %s = (s32[], f32[8,16]{1,0}) parameter(0)
  ROOT %w1 = (s32[], f32[8,16]{1,0}) while(%s), condition=%small, body=%inner
}

%open (u: (s32[], f32[8,16])) -> pred[] {
  %u = (s32[], f32[8,16]{1,0}) parameter(0)
  ROOT %k = pred[] custom-call(%u), custom_call_target="ask"
}

ENTRY %main (a: (s32[], f32[8,16])) -> (s32[], f32[8,16]) {
  %a = (s32[], f32[8,16]{1,0}) parameter(0)
  %w2 = (s32[], f32[8,16]{1,0}) while(%a), condition=%small, body=%outer, backend_config={"known_trip_count":{"n":"3"}}
  ROOT %w3 = (s32[], f32[8,16]{1,0}) while(%w2), condition=%open, body=%inner
}
"""


def test_nested_loops_are_multiplied():
    cost = module_cost(parse(NESTED), unknown_trips=7)
    turns = 3 * 5 + 7
    assert cost.flops == turns * 2 * 8 * 16 * 16
    assert cost.collectives["all-reduce"].count == turns
    assert cost.collectives["all-reduce"].bytes == pytest.approx(turns * 2 * 3 / 4 * 8 * 16 * 4)
    assert cost.guessed == 1


def test_a_loop_that_ends_by_its_data_turns_once_inside_another():
    text = NESTED.replace("while(%s), condition=%small, body=%inner", "while(%s), condition=%open, body=%inner")
    text = text.replace(
        'condition=%small, body=%outer, backend_config={"known_trip_count":{"n":"3"}}', "condition=%open, body=%outer"
    )
    cost = module_cost(parse(text), unknown_trips=7)
    assert cost.flops == (7 * 1 + 7) * 2 * 8 * 16 * 16 and cost.guessed == 3


SLICED = """HloModule sliced

%slice (w: f32[4,16,16], i: s32[]) -> f32[16,16] {
  %w = f32[4,16,16]{2,1,0} parameter(0)
  %i = s32[] parameter(1)
  %zero = s32[] constant(0)
  %cut = f32[1,16,16]{2,1,0} dynamic-slice(%w, %i, %zero, %zero), dynamic_slice_sizes={1,16,16}
  ROOT %flat = f32[16,16]{1,0} bitcast(%cut)
}

%view (t: f32[16,32]) -> f32[16,32] {
  %t = f32[16,32]{1,0} parameter(0)
  ROOT %b = f32[16,32]{1,0} bitcast(%t)
}

%multiply (x: f32[8,16], ws: f32[4,16,16], at: s32[], table: f32[16,32]) -> f32[8,32] {
  %x = f32[8,16]{1,0} parameter(0)
  %ws = f32[4,16,16]{2,1,0} parameter(1)
  %at = s32[] parameter(2)
  %table = f32[16,32]{1,0} parameter(3)
  %one = f32[16,16]{1,0} fusion(%ws, %at), kind=kLoop, calls=%slice
  %d = f32[8,16]{1,0} dot(%x, %one), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  %seen = f32[16,32]{1,0} fusion(%table), kind=kLoop, calls=%view
  ROOT %e = f32[8,32]{1,0} dot(%d, %seen), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

ENTRY %main (x0: f32[8,16], w0: f32[4,16,16], i0: s32[], t0: f32[16,32]) -> f32[8,32] {
  %x0 = f32[8,16]{1,0} parameter(0)
  %w0 = f32[4,16,16]{2,1,0} parameter(1)
  %i0 = s32[] parameter(2)
  %t0 = f32[16,32]{1,0} parameter(3)
  ROOT %f = f32[8,32]{1,0} fusion(%x0, %w0, %i0, %t0), kind=kOutput, calls=%multiply
}
"""


def test_fusions_inside_a_fusion_read_their_slices_and_what_reads_their_views():
    read = 8 * 16 + 16 * 16 + 1 + 16 * 32  # x, one of four matrices, its number, the table
    assert module_cost(parse(SLICED)).bytes == (read + 8 * 32) * 4


def test_a_layer_scan_compiled_on_the_cpu():
    layers, rows, width = 6, 32, 64

    def run(weights, x):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)[0]

    shapes = (
        jax.ShapeDtypeStruct((layers, width, width), jnp.float32),
        jax.ShapeDtypeStruct((rows, width), jnp.float32),
    )
    text = jax.jit(run).lower(*shapes).compile().as_text()
    cost = module_cost(parse(text))
    assert cost.flops == layers * 2 * rows * width * width
    # Each layer's weights are read once, not all weights in each layer.
    assert cost.bytes < 6 * layers * (width * width + 4 * rows * width) * 4
    assert cost.guessed == 0


def test_collectives_of_a_sharded_product():
    mesh = make_mesh(1, 4, 1, devices=jax.devices()[:4])
    x = jax.ShapeDtypeStruct((16, 32), jnp.float32, sharding=named_sharding(mesh, ("batch", None)))
    compiled = jax.jit(lambda x: jnp.sum(x, axis=0), out_shardings=named_sharding(mesh, (None,))).lower(x).compile()
    found = module_cost(parse(compiled.as_text())).collectives
    assert found["all-reduce"].count == 1
    assert found["all-reduce"].bytes == pytest.approx(2 * 3 / 4 * 32 * 4)


@pytest.mark.parametrize(
    "line, flops",
    [
        ("bf16[64,128] convolution(%l, %r), dim_labels=bf_io->bf", 2 * 64 * 32 * 128),
        # A batched product as a TPU writes it: the batch is a spatial dimension that is not slid over.
        (
            "bf16[4,64,128] convolution(%l3, %r3), window={size=4 stride=3 pad=0_0 lhs_dilate=4}, "
            "dim_labels=0bf_0io->0bf",
            2 * 4 * 64 * 32 * 128,
        ),
    ],
)
def test_products_written_as_convolutions(line, flops):
    text = f"""ENTRY %main () -> bf16[64,128] {{
  %l = bf16[64,32] parameter(0)
  %r = bf16[32,128] parameter(1)
  %l3 = bf16[4,64,32] parameter(2)
  %r3 = bf16[4,32,128] parameter(3)
  ROOT %c = {line}
}}
"""
    assert module_cost(parse(text)).flops == flops


def test_types_and_groups():
    found = arrays_of("(f32[2,3]{1,0:T(8,128)S(1)}, bf16[], s4[5], pred[7], token[])")
    assert [(a.dtype, a.bytes, a.near) for a in found] == [
        ("f32", 24, True),
        ("bf16", 2, False),
        ("s4", 2.5, False),
        ("pred", 7, False),
    ]
    assert group_size("replica_groups=[8,32]<=[256]") == 32
    assert group_size("replica_groups={{0,1,2},{3,4,5}}") == 3
    assert group_size("replica_groups=mesh['axis_0'=4,'axis_1'=2] {'axis_0'}, use_global_device_ids=true") == 4
    assert group_size("replica_groups=mesh['a'=8,'b'=3] {'a':(1)2,'b'}") == 6
    assert np.isclose(module_cost(parse(NESTED)).flops, 16 * 2 * 8 * 16 * 16)


# Two blocks of queries, two of keys; an attribute that breaks the line, as a kernel's notes do.
KERNEL = """HloModule kernel

ENTRY %main (g: s8[1,2,2], q: bf16[3,4,256,64], k: bf16[3,2,256,64]) -> bf16[3,4,256,64] {{
  %g = s8[1,2,2] parameter(0)
  %q = bf16[3,4,256,64] parameter(1)
  %k = bf16[3,2,256,64] parameter(2)
  %{name}.1 = bf16[3,4,256,64] custom-call(%g, %g, %q, %k, %k), custom_call_target="tpu_custom_call", {notes}
  %n = bf16[3,4,256,64] negate(%{name}.1)
  ROOT %d = bf16[3,4,256,256] dot(%n, %k), lhs_contracting_dims={{3}}, rhs_contracting_dims={{3}}
}}
"""
BLOCKS = (
    'frontend_attributes={kernel_metadata={\n"xprof":"{\\"block_q{x}\\": 128, \\"block_kv{x}\\": 128}"\n}}, metadata={}'
)
DOT = 2 * 3 * 4 * 256 * 256 * 64


@pytest.mark.parametrize(
    "name, suffix, products",
    [
        ("splash_mha_fwd_segmented", "", 2),
        ("splash_mha_dq_segmented", "_dq", 3),
        ("splash_mha_dkv_segmented", "_dkv", 4),
    ],
)
def test_splash_attention_counts_the_blocks_that_it_computes(name, suffix, products):
    cost = module_cost(parse(KERNEL.format(name=name, notes=BLOCKS.replace("{x}", suffix))))
    # Three of the four blocks are not wholly above the diagonal. What follows the broken lines is read, too.
    assert cost.flops - DOT == products * 2 * 3 * 4 * 64 * 3 * 128 * 128
    assert cost.opaque == 0


def test_other_kernels_tell_their_flops_or_are_reported():
    told = 'backend_config={"custom_call_config":{"cost_estimate":{"flops":"12345"}}}'
    cost = module_cost(parse(KERNEL.format(name="mine", notes=told)))
    assert (cost.flops - DOT, cost.opaque) == (12345, 0)
    silent = module_cost(parse(KERNEL.format(name="mine", notes="metadata={}")))
    assert (silent.flops, silent.opaque) == (DOT, 1)


def test_loops_in_turn_share_their_turns():
    last = "  ROOT %w4 = (s32[], f32[8,16]{1,0}) while(%w3), condition=%open, body=%inner\n}\n"
    text = NESTED.replace("ROOT %w3 =", "%w3 =").rstrip().removesuffix("}") + last
    one = 2 * 8 * 16 * 16
    assert module_cost(parse(text), unknown_trips=7).flops == (15 + 7 + 7) * one
    shared = module_cost(parse(text), unknown_trips=7, in_turn=True)
    assert shared.flops == (15 + 7) * one and shared.guessed == 2


def test_slices_move_what_they_take():
    text = """ENTRY %main (x: f32[8,1024]) -> f32[1,1024] {
  %x = f32[8,1024] parameter(0)
  %s = (f32[8,1024], f32[1,1024]{1,0:S(1)}, u32[]) slice-start(%x), slice={[0:1], [0:1024]}
  %d = f32[1,1024]{1,0:S(1)} slice-done(%s)
  ROOT %c = f32[1,1024] copy(%d)
}
"""
    assert module_cost(parse(text)).bytes == 4096 + 4096, "read once into fast memory, written once from there"


def test_an_unrolled_loop_turns_less_often():
    text = NESTED.replace(
        "ROOT %t = (s32[], f32[8,16]{1,0}) tuple(%i, %r)",
        "%two = s32[] constant(2)\n  %next = s32[] add(%i, %two)\n  ROOT %t = (s32[], f32[8,16]{1,0}) tuple(%next, %r)",
    )
    # `counter < 5` by steps of 2: three turns, in each of the outer loop's three.
    assert module_cost(parse(text), unknown_trips=7).flops == (3 * 3 + 7) * 2 * 8 * 16 * 16


def test_a_loops_comparison_may_stand_in_a_fusion():
    fused = """%compared (y: s32[], z: s32[]) -> pred[] {
  %y = s32[] parameter(0)
  %z = s32[] parameter(1)
  ROOT %lt = pred[] compare(%y, %z), direction=LT
}

%small ("""
    text = NESTED.replace("%small (", fused, 1).replace(
        "compare(%j, %n), direction=LT", "fusion(%j, %n), calls=%compared"
    )
    assert "fusion(%j" in text
    assert module_cost(parse(text), unknown_trips=7).flops == module_cost(parse(NESTED), unknown_trips=7).flops

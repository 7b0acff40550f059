"""The TPU kernel for attention to blocks, compiled for TPUs that are not there: blocks are not copied or padded."""

import re

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from stepjax.chips import open_topology
from stepjax.models.blocks import LayerBlocks, attend_to_blocks
from stepjax.models.cache import KeyValues, WorkList
from stepjax.parallel import RULES, make_mesh, on_each_device

ROWS, PAIRS, LAYERS, BLOCKS, PAGE = 8, 256, 3, 4096, 128
BATCH, TENSOR = 2, 2


def compiled(topology: str, dtype, kv_heads: int, group: int, dim: int, *, window: int, narrow: bool):
    """A loop like that of a rollout: steps of `LAYERS` layers that attend to blocks; then each row writes a block."""
    mesh = make_mesh(1, BATCH, TENSOR, devices=open_topology(topology).devices)
    heads = "tensor" if kv_heads % TENSOR == 0 else None

    def array(shape, kind, *spec):
        return jax.ShapeDtypeStruct(shape, kind, sharding=NamedSharding(mesh, PartitionSpec(*spec)))

    def blocks(*shape, kind):
        return array((LAYERS, BLOCKS, kv_heads, *shape), kind, None, RULES["batch"], heads)

    def by_row(*shape, kind=jnp.int32, **names):
        return array(shape, kind, RULES["batch"], *names.values())

    kind = jnp.int8 if narrow else dtype
    scales = [blocks(PAGE, kind=jnp.float32) if narrow else None] * 2
    stored = KeyValues(blocks(dim, PAGE, kind=kind), blocks(PAGE, dim, kind=kind), *scales)
    work = WorkList(*[by_row(PAIRS)] * 4, by_row(BATCH), by_row(ROWS))
    queries = by_row(ROWS, kv_heads, group, dim, kind=dtype, heads=heads)

    def run(stored, work, queries, position, turns):
        def turn(now):
            stored, queries, left = now

            def layer(x, number):
                seen = jnp.where(number == 0, window, 2**30) if window else None
                none = jnp.zeros(x.shape[:3]), jnp.ones(x.shape[:3]), x.astype(jnp.float32)
                mine = LayerBlocks(stored, work, number)
                _, total, out = attend_to_blocks(mine, x, none, position=position, window=seen)
                return (out / total[..., None]).astype(x.dtype), None

            def step(now):
                return jax.lax.scan(layer, now[0], jnp.arange(LAYERS))[0], now[1] - 1

            def written(into):
                def local(into, at):
                    return into.at[:, at].set(jnp.ones((), into.dtype), mode="drop")

                return on_each_device(local, jax.sharding.get_abstract_mesh(), (1, 0), 1)(into, position)

            queries, _ = jax.lax.while_loop(lambda now: now[1] > 0, step, (queries, left))
            return jax.tree.map(written, stored), queries, left - 1

        return jax.lax.while_loop(lambda now: now[2] > 0, turn, (stored, queries, turns))[:2]

    with jax.set_mesh(mesh):
        given = stored, work, queries, by_row(ROWS), jax.ShapeDtypeStruct((), jnp.int32)
        return jax.jit(run, donate_argnums=0).lower(*given).compile()


@pytest.mark.slow
@pytest.mark.usefixtures("libtpu")
@pytest.mark.parametrize("topology", ["v5e:2x2", "v5p:2x2x1"])
@pytest.mark.parametrize(
    "dtype, kv_heads, group, dim, window, narrow",
    [
        (jnp.bfloat16, 2, 7, 128, 0, False),
        (jnp.bfloat16, 4, 7, 64, 512, False),
        (jnp.float32, 4, 1, 64, 0, False),
        (jnp.bfloat16, 4, 2, 256, 512, False),
        (jnp.bfloat16, 4, 4, 128, 0, True),
        (jnp.bfloat16, 3, 4, 64, 0, False),  # three key heads on two devices: each has them all
    ],
)
def test_blocks_are_neither_copied_nor_padded(topology, dtype, kv_heads, group, dim, window, narrow):
    found = compiled(topology, dtype, kv_heads, group, dim, window=window, narrow=narrow)
    text, memory = found.as_text(), found.memory_analysis()
    assert len(re.findall(r"%block_attention[\w.]* = .* custom-call\(", text)) == 1
    here = kv_heads // TENSOR if kv_heads % TENSOR == 0 else kv_heads
    tokens = LAYERS * BLOCKS // BATCH * here * PAGE
    pool = tokens * 2 * (dim + 4 if narrow else dim * jnp.dtype(dtype).itemsize)
    assert pool < memory.argument_size_in_bytes < 1.02 * pool + 2**20
    assert memory.temp_size_in_bytes < 0.05 * pool
    shapes = [f"[{LAYERS},{BLOCKS // BATCH},{here},{a},{b}]" for a, b in ((dim, PAGE), (PAGE, dim))]
    shapes += [shape.replace(",1,", ",") for shape in shapes if here == 1]
    made = [re.match(r"\s*(?:ROOT )?%\S+ = (\S+) ([\w-]+)\(", line) for line in text.splitlines()]
    opcodes = {m[2] for m in made if m and any(shape in m[1] for shape in shapes)}
    written = {"scatter", "fusion"}  # in place
    assert written <= opcodes <= written | {"parameter", "get-tuple-element", "bitcast"}, opcodes

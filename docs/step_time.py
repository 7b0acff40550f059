"""The time of a decode step against the tokens that its rows hold in blocks: `python docs/step_time.py [SHAPE]`.

One compiled program decodes 16 rows of a shape of `stepjax bench`, with random parameters; only the blocks that the
rows hold differ from one line of the table to the next.
"""

import dataclasses
import sys
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from stepjax.bench.case import Case
from stepjax.bench.shapes import SLOTS, bench_config
from stepjax.models.blocks import work_list
from stepjax.models.cache import Blocks, WorkList
from stepjax.options import parse
from stepjax.parallel import make_mesh

PAGE, STEPS, REPEATS = 128, 16, 9
LENGTHS = ([64] * SLOTS, [256] * SLOTS, [1024] * SLOTS, [4096] * SLOTS, [64] * (SLOTS - 1) + [16384], [16384] * SLOTS)


def stepper(shape: str, longest: int) -> Callable[[Sequence[int]], float]:
    """Seconds of a step of rows of these lengths, `longest` at most: the least of several runs."""
    config = bench_config(parse([f"--config.shape={shape}"], "bench").config, "rollout")
    case = Case(config, make_mesh(1, 1, 1, devices=jax.devices()[:1]))
    definition, params = case.run.policy, case.parameters.policy
    most = longest // PAGE
    layers = jax.jit(lambda p: definition.bind(p).trunk.empty_blocks(SLOTS * most, PAGE))(params)

    @jax.jit
    def decode(params, layers, work: WorkList, position: jax.Array) -> jax.Array:
        model = definition.bind(params)
        weights, one = model.trunk.split_weights(), jnp.ones((SLOTS, 1), jnp.int32)

        def step(i: jax.Array, carry: tuple) -> tuple:
            token, cache = carry
            cache = dataclasses.replace(cache, index=i, blocks=Blocks(layers, work))
            hidden, cache = model.trunk.extend(token[:, None], position[:, None] + i, one, cache, weights=weights)
            token = jnp.argmax(model.logits(hidden[:, 0]), axis=-1).astype(jnp.int32)
            return token, dataclasses.replace(cache, blocks=None)

        start = jnp.zeros(SLOTS, jnp.int32), model.trunk.empty_cache(SLOTS, PAGE)
        return jax.lax.fori_loop(0, STEPS, step, start)[0]

    def seconds(lengths: Sequence[int]) -> float:
        held, nothing = np.array(lengths, np.int32), np.zeros(SLOTS, np.int32)
        table = np.random.default_rng(0).permutation(SLOTS * most).astype(np.int32).reshape(SLOTS, most)
        work = work_list(*map(jnp.asarray, (table, held // PAGE, nothing, nothing, nothing)), PAGE)
        taken = []
        for _ in range(REPEATS + 1):  # the first one may compile
            began = time.perf_counter()
            decode(params, layers, work, jnp.asarray(held)).block_until_ready()
            taken.append((time.perf_counter() - began) / STEPS)
        return min(taken[1:])

    return seconds


def main(shape: str = "1m", lengths: Sequence[Sequence[int]] = LENGTHS) -> None:
    seconds = stepper(shape, max(map(max, lengths)))
    print("| tokens of the rows | held | ms a step | µs a further token held |\n| --- | --- | --- | --- |")
    least, none = 0.0, 0
    for rows in lengths:
        now, held = seconds(rows), sum(rows)
        least, none = (least, none) if none else (now, held)
        names = ", ".join(f"{rows.count(n)} × {n:,}" for n in sorted(set(rows)))
        further = f"{(now - least) / (held - none) * 1e6:.3f}" if held > none else "–"
        print(f"| {names} | {held:,} | {now * 1e3:.2f} | {further} |")


if __name__ == "__main__":
    main(*sys.argv[1:2])

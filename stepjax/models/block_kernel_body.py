"""What the kernel of `block_kernel.py` does for one row.

Rows come one after the other. Copies run ahead of them: a cursor in scalar memory says which blocks are copied next, to
the buffer after the last one, round and round.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array

from stepjax.models.attention import LEAST_POWER, LOG2E, two_to

LANES = 128
"""Numbers along the last dimension of a tile; blocks are multiples of it."""

ISSUED, ROW, PLACE, USED = range(4)
"""Of the cursor: buffers that copies were begun to, the row and the place in the list of the next ones; buffers used."""


def attend_row(
    ends: Any,
    block: Any,
    packed: Any,
    lowest: Any,
    layer: Any,
    queries: Any,
    *refs: Any,
    count: int,
    page: int,
    bits: int,
    turned: bool,
    layered: bool,
    windowed: bool,
    cap: float,
) -> None:
    """The sums of one row, 2 to whole numbers as in `attention.Partial`.

    Args:
      ends: int32[B], the places behind each row's blocks.
      block, packed: int32[M], as of `WorkList`: position · 2^bits + first.
      lowest: int32[B], the last position that each row does not see any more, where it is `windowed`.
      layer: int32[1].
      queries: [1, K, G, D].
      refs: `count` arrays of blocks in HBM; float32[1, K, G, LANES], of which power and total are the first two, and
        float32[1, K, G, D]; then the buffers of each array, power and total, the cursor, a semaphore a buffer.
      turned: values lie as keys do.
      layered: blocks of all layers are stacked.
    """
    pool, (stats, out), near = refs[:count], refs[count : count + 2], refs[count + 2 : 2 * count + 2]
    power, total, cursor, arrived = refs[2 * count + 2 :]
    rows, row = ends.shape[0], pl.program_id(0)
    _, kv_heads, group, _ = queries.shape
    buffers, tokens = near[0].shape[0], near[0].shape[3]
    together = tokens // page

    def begins(row: Any) -> Any:
        """The place of a row's first block that it sees."""
        first, end = jnp.where(row == 0, 0, ends[jnp.maximum(row - 1, 0)]), ends[row]
        if not windowed:
            return first

        def halved(span: Any) -> Any:
            low, high = span
            middle = (low + high) // 2
            seen = (packed[middle] >> bits) + page - 1 > lowest[row]
            return jnp.where(seen, low, middle + 1), jnp.where(seen, middle, high)

        return jax.lax.while_loop(lambda span: span[0] < span[1], halved, (first, end))[0]

    def next_row(row: Any) -> Any:
        """The first row from this one on that sees a block, and where it begins."""

        def empty(at: Any) -> Any:
            return (at[0] < rows) & (at[1] >= ends[jnp.minimum(at[0], rows - 1)])

        def after(at: Any) -> Any:
            row = at[0] + 1
            return row, begins(jnp.minimum(row, rows - 1))

        return jax.lax.while_loop(empty, after, (row, begins(jnp.minimum(row, rows - 1))))

    def copies(buffer: Any, number: int, place: Any) -> list[Any]:
        """Of the block at a place of the list, to the `number`th place of a buffer."""
        found, columns = [], pl.ds(number * page, page)
        for name, (source, into) in enumerate(zip(pool, near, strict=True)):
            along_rows = name == 1 and not turned
            source = source.at[layer[0], block[place]] if layered else source.at[block[place]]
            into = into.at[buffer]
            into = into.at[:, columns] if along_rows or name > 1 else into.at[:, :, columns]
            found.append(pltpu.make_async_copy(source, into, arrived.at[buffer]))
        return found

    def issue() -> None:
        """Begins the copies that the cursor is at, and moves it on."""
        of_row, place = cursor[ROW], cursor[PLACE]

        @pl.when(of_row < rows)
        def _() -> None:
            buffer, end = jax.lax.rem(cursor[ISSUED], buffers), ends[of_row]
            for number in range(together):

                @pl.when(place + number < end)
                def _(number: int = number) -> None:
                    for copy in copies(buffer, number, place + number):
                        copy.start()

            cursor[ISSUED] += 1
            behind = place + together

            @pl.when(behind < end)
            def _() -> None:
                cursor[PLACE] = behind

            @pl.when(behind >= end)
            def _() -> None:
                cursor[ROW], cursor[PLACE] = next_row(of_row + 1)

    @pl.when(row == 0)
    def _() -> None:
        for into in near[1:2] + near[3:]:  # weights of 0 are multiplied with values that never came
            into[...] = jnp.zeros_like(into)
        cursor[ISSUED], cursor[USED] = 0, 0
        cursor[ROW], cursor[PLACE] = next_row(0)
        for _ in range(buffers - 1):
            issue()

    power[...] = jnp.full_like(power, LEAST_POWER)
    total[...] = jnp.zeros_like(total)
    out[...] = jnp.zeros_like(out)
    first, end = begins(row), ends[row]

    def some(turn: Any, nothing: None) -> None:
        issue()
        place, buffer = first + turn * together, jax.lax.rem(cursor[USED], buffers)
        column = jax.lax.broadcasted_iota(jnp.int32, (group, tokens), 1)
        own = jnp.full((group, tokens), tokens, jnp.int32)  # the first column of its block that is seen
        for number in range(together):
            at = jnp.minimum(place + number, end - 1)
            from_here = packed[at] & (2**bits - 1)
            if windowed:
                from_here = jnp.maximum(from_here, lowest[row] + 1 - (packed[at] >> bits))
            from_here = jnp.where(place + number < end, from_here + number * page, tokens)
            own = jnp.where(column >= number * page, from_here, own)

            @pl.when(place + number < end)
            def _(number: int = number, at: Any = at) -> None:
                for copy in copies(buffer, number, at):
                    copy.wait()

        for head in range(kv_heads):
            scores, weigh = _products(queries, [x.at[buffer] for x in near], head, turned)
            if cap:
                scores = cap * jnp.tanh(scores / cap)
            scores = jnp.where(column >= own, scores * LOG2E, -1e30)
            before = power[head][:, :1]
            highest = jnp.clip(jnp.ceil(jnp.max(scores, axis=1, keepdims=True)), LEAST_POWER, -LEAST_POWER)
            higher = jnp.maximum(before, highest)
            weights = jnp.exp2(scores - higher)
            change = two_to(before - higher)
            power[head] = jnp.broadcast_to(higher, power.shape[1:])
            summed = total[head][:, :1] * change + jnp.sum(weights, axis=1, keepdims=True)
            total[head] = jnp.broadcast_to(summed, total.shape[1:])
            out[0, head] = out[0, head] * change + weigh(weights)
        cursor[USED] += 1


    jax.lax.fori_loop(0, pl.cdiv(jnp.maximum(end - first, 0), together), some, None)
    lane = jax.lax.broadcasted_iota(jnp.int32, power.shape, 2)
    stats[0] = jnp.where(lane == 0, power[...], total[...])


def _products(queries: Any, near: list[Any], head: int, turned: bool) -> tuple[Array, Any]:
    """Scores of a head's queries and the keys that came, and the function that weighs the values."""
    keys, values = near[0][head], near[1][head]
    dtype = queries.dtype
    scales = [x[pl.ds(head, 1), :] for x in near[2:]]

    def product(a: Array, b: Array, over: int) -> Array:
        return jax.lax.dot_general(a, b.astype(dtype), (((1,), (over,)), ((), ())), preferred_element_type=jnp.float32)

    def weigh(weights: Array) -> Array:
        mixed = weights * scales[1] if scales else weights
        return product(mixed.astype(dtype), values, 1 if turned else 0)

    scores = product(queries[0, head], keys, 0)
    return scores * scales[0] if scales else scores, weigh

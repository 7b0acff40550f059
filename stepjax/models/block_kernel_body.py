"""What the kernel of `block_kernel.py` does for one row.

Rows come one after the other. Copies run ahead of them: a cursor in scalar memory says which blocks are copied next, to
the buffer after the last one, round and round.
"""

from dataclasses import dataclass
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
"""Of the cursor: buffers that copies were begun to; row and place in the list of the next copies; buffers used."""


@dataclass(frozen=True)
class Lists:
    """Which blocks each row attends to, in scalar memory.

    Attributes:
      ends: int32[B], the places behind each row's blocks.
      block, packed: int32[M], as in `WorkList`: position · 2^bits + first.
      lowest: int32[B], the last position that each row does not see any more, where it is `windowed`.
      layer: int32[1], where the blocks of all layers are stacked (`layered`).
      page: tokens of a block.
    """

    ends: Any
    block: Any
    packed: Any
    lowest: Any
    layer: Any
    page: int
    bits: int
    windowed: bool
    layered: bool

    @property
    def rows(self) -> int:
        return int(self.ends.shape[0])

    def begins(self, row: Any) -> Any:
        """The place of a row's first block that it sees, of which there need not be one."""
        first = jnp.where(row == 0, 0, self.ends[jnp.maximum(row - 1, 0)])
        if not self.windowed:
            return first

        def halved(span: Any) -> Any:
            low, high = span
            middle = (low + high) // 2
            seen = (self.packed[middle] >> self.bits) + self.page - 1 > self.lowest[row]
            return jnp.where(seen, low, middle + 1), jnp.where(seen, middle, high)

        return jax.lax.while_loop(lambda span: span[0] < span[1], halved, (first, self.ends[row]))[0]

    def next_row(self, row: Any) -> Any:
        """The first row from this one on that sees a block, and the block's place."""
        last = self.rows - 1

        def nothing(at: Any) -> Any:
            return (at[0] < self.rows) & (at[1] >= self.ends[jnp.minimum(at[0], last)])

        def after(at: Any) -> Any:
            return at[0] + 1, self.begins(jnp.minimum(at[0] + 1, last))

        return jax.lax.while_loop(nothing, after, (row, self.begins(jnp.minimum(row, last))))

    def first_slot(self, row: Any, place: Any) -> Any:
        """The first slot of a block that its row sees."""
        first = self.packed[place] & (2**self.bits - 1)
        if not self.windowed:
            return first
        return jnp.maximum(first, self.lowest[row] + 1 - (self.packed[place] >> self.bits))


@dataclass(frozen=True)
class Copies:
    """Copies of blocks from HBM (`pool`) to buffers (`near`), several blocks beside each other in each.

    Attributes:
      cursor: int32[4].
      arrived: a semaphore a buffer.
      turned: values lie as keys do.
    """

    lists: Lists
    pool: Any
    near: Any
    cursor: Any
    arrived: Any
    turned: bool

    @property
    def together(self) -> int:
        return int(self.near[0].shape[3]) // self.lists.page

    @property
    def buffers(self) -> int:
        return int(self.near[0].shape[0])

    def of(self, buffer: Any, number: int, place: Any) -> list[Any]:
        """Those of the block at a place of the list, to the `number`th place of a buffer."""
        lists, found, columns = self.lists, [], pl.ds(number * self.lists.page, self.lists.page)
        for name, (pool, near) in enumerate(zip(self.pool, self.near, strict=True)):
            source = pool.at[lists.layer[0], lists.block[place]] if lists.layered else pool.at[lists.block[place]]
            upright = name > 1 or (name == 1 and not self.turned)  # scales and values: tokens are the second dimension
            into = near.at[buffer, :, columns] if upright else near.at[buffer, :, :, columns]
            found.append(pltpu.make_async_copy(source, into, self.arrived.at[buffer]))
        return found

    def begin(self) -> None:
        """Before the first row."""
        for near in self.near[1:2] + self.near[3:]:  # weights of 0 are multiplied with values that never came
            near[...] = jnp.zeros_like(near)
        self.cursor[ISSUED], self.cursor[USED] = 0, 0
        self.cursor[ROW], self.cursor[PLACE] = self.lists.next_row(0)
        for _ in range(self.buffers - 1):
            self.issue()

    def issue(self) -> None:
        """Begins the copies that the cursor is at, if there are more, and moves it on."""
        cursor, row, place = self.cursor, self.cursor[ROW], self.cursor[PLACE]

        @pl.when(row < self.lists.rows)
        def _() -> None:
            buffer, end = jax.lax.rem(cursor[ISSUED], self.buffers), self.lists.ends[row]
            for number in range(self.together):

                @pl.when(place + number < end)
                def _(number: int = number) -> None:
                    for copy in self.of(buffer, number, place + number):
                        copy.start()

            cursor[ISSUED] += 1
            behind = place + self.together

            @pl.when(behind < end)
            def _() -> None:
                cursor[PLACE] = behind

            @pl.when(behind >= end)
            def _() -> None:
                cursor[ROW], cursor[PLACE] = self.lists.next_row(row + 1)

    def wait(self, buffer: Any, number: int, place: Any, there: Any) -> None:
        """Until a block is in its buffer, if it is `there`."""

        @pl.when(there)
        def _() -> None:
            for copy in self.of(buffer, number, place):
                copy.wait()


def attend_row(
    ends: Any, block: Any, packed: Any, lowest: Any, layer: Any, queries: Any, *refs: Any, cap: float, **sizes: Any
) -> None:
    """The sums of one row, 2 to whole numbers as in `attention.Partial`.

    Args:
      ends, block, packed, lowest, layer: of `Lists`.
      queries: [1, K, G, D].
      refs: the arrays of blocks in HBM; float32[1, K, G, LANES], of which power and total are the first two, and
        float32[1, K, G, D]; then a buffer of each array, power and total, the cursor, the semaphores.
      sizes: `count` of the arrays, `turned` of `Copies`; the others are of `Lists`.
    """
    count, turned = sizes.pop("count"), sizes.pop("turned")
    lists = Lists(ends, block, packed, lowest, layer, **sizes)
    (stats, out), (power, total, cursor, arrived) = refs[count : count + 2], refs[2 * count + 2 :]
    copies = Copies(lists, refs[:count], refs[count + 2 : 2 * count + 2], cursor, arrived, turned)
    pl.when(pl.program_id(0) == 0)(copies.begin)
    power[...] = jnp.full_like(power, LEAST_POWER)
    total[...] = jnp.zeros_like(total)
    out[...] = jnp.zeros_like(out)
    row, together = pl.program_id(0), copies.together
    first, end = lists.begins(row), ends[row]
    shape = queries.shape[2], together * lists.page

    def some(turn: Any, nothing: None) -> None:
        copies.issue()
        place, buffer = first + turn * together, jax.lax.rem(cursor[USED], copies.buffers)
        column = jax.lax.broadcasted_iota(jnp.int32, shape, 1)
        own = jnp.full(shape, shape[1], jnp.int32)  # the first column of its block that is seen
        for number in range(together):
            there, start = place + number < end, number * lists.page
            at = jnp.minimum(place + number, end - 1)
            seen_from = jnp.where(there, start + lists.first_slot(row, at), shape[1])
            own = jnp.where(column >= start, seen_from, own)
            copies.wait(buffer, number, at, there)
        near = [x.at[buffer] for x in copies.near]
        for head in range(queries.shape[1]):
            _add(queries, near, head, column >= own, (power, total, out), turned=turned, cap=cap)
        cursor[USED] += 1

    jax.lax.fori_loop(0, pl.cdiv(jnp.maximum(end - first, 0), together), some, None)
    lane = jax.lax.broadcasted_iota(jnp.int32, power.shape, 2)
    stats[0] = jnp.where(lane == 0, power[...], total[...])


def _add(queries: Any, near: list[Any], head: int, seen: Array, sums: Any, *, turned: bool, cap: float) -> None:
    """Adds to the sums of a head's queries those over the keys that came."""
    power, total, out = sums
    dtype = queries.dtype
    key_scales, value_scales = (x[pl.ds(head, 1), :] for x in near[2:]) if near[2:] else (None, None)

    def product(a: Array, b: Array, over: int) -> Array:
        return jax.lax.dot_general(a, b.astype(dtype), (((1,), (over,)), ((), ())), preferred_element_type=jnp.float32)

    scores = product(queries[0, head], near[0][head], 0)
    if key_scales is not None:
        scores = scores * key_scales
    if cap:
        scores = cap * jnp.tanh(scores / cap)
    scores = jnp.where(seen, scores * LOG2E, -1e30)
    before = power[head][:, :1]
    highest = jnp.clip(jnp.ceil(jnp.max(scores, axis=1, keepdims=True)), LEAST_POWER, -LEAST_POWER)
    higher = jnp.maximum(before, highest)
    change, weights = two_to(before - higher), jnp.exp2(scores - higher)
    summed = total[head][:, :1] * change + jnp.sum(weights, axis=1, keepdims=True)
    mixed = weights if value_scales is None else weights * value_scales
    power[head] = jnp.broadcast_to(higher, power.shape[1:])
    total[head] = jnp.broadcast_to(summed, total.shape[1:])
    out[0, head] = out[0, head] * change + product(mixed.astype(dtype), near[1][head], 1 if turned else 0)

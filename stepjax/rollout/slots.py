"""The slots of the engine: their state, how they are emptied and given up.

All functions work on one device's slots, prompts and rows: nothing here crosses the mesh.
"""

import dataclasses
import enum
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from stepjax.models.blocks import work_list
from stepjax.models.cache import Cache, KeyValues, WorkList


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Prompts:
    """Prefilled prompts: n chunks of c prompts.

    Attributes:
      hidden: [n, c, D], the state that predicts each prompt's first response token; where rows begin within their
        prompts, [n, c, P, D], the state behind each column.
      layers: keys and values as in `Cache`, a chunk first, of each prompt's last tokens.
      positions, segments: int32[n, c, F], as in `Cache`.
      length: int32[n, c].
      table: int32[n, c, B], the blocks of the tokens before these; None: there are none.
      stop: int32[n, c], the state behind each of the automaton that may stop a row; None: rows begin in its first one.

    Where rows may be held, the last places are those of the rows (`first_of_rows`): what a held row has come to.
    """

    hidden: Array
    layers: KeyValues | tuple[KeyValues, ...]
    positions: Array
    segments: Array
    length: Array
    table: Array | None = None
    stop: Array | None = None

    def first_of_rows(self, rows: int) -> int:
        """The place of the first of one device's `rows` rows."""
        chunks, size = self.positions.shape[:2]
        return (chunks - -(-rows // size)) * size


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Queue:
    """The N rows to be sampled.

    Attributes:
      prompt: int32[N], the place of the row's prompt among the prompts.
      id: int32[N], the number that names the row's random key.
      limit: int32[N], tokens that it has at most; 0: it is not sampled.
      cut: int32[N], tokens at its prompt's end that it does without, fewer than the prompt has; None: all rows begin
        behind their prompts. There are no blocks then.
      start: int32[N], tokens at its prompt's end that are the first ones of its response: it goes on behind them as if
        it had drawn them itself. `limit` counts them. None: there are none.
      steps: int32[N], the hit of the stops that ends the row: 1 the first one, 0 none; None: the first one.
      hold: int32[N], whether the row is held when it ends (`Hold`); None: no row is.
      greedy: bool[N], takes the likeliest token each time; None: no row does.
      given: int32[N], tokens of its response that the record holds already: those behind `start` are read, one a step,
        not drawn. None: there are none.
    """

    prompt: Array
    id: Array
    limit: Array
    cut: Array | None = None
    start: Array | None = None
    steps: Array | None = None
    hold: Array | None = None
    greedy: Array | None = None
    given: Array | None = None


class Hold(enum.IntEnum):
    """When a row that ends is held, so that others may begin behind it.

    Attributes:
      NEVER: it leaves nothing.
      STOPPED: where the stops ended it.
      ENDED: however it ended, at an end id or its limit, too.
    """

    NEVER = 0
    STOPPED = 1
    ENDED = 2


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Held:
    """The blocks that S rows hold.

    Attributes:
      table: int32[S, B], their numbers.
      count: int32[S], how many they are.
      shared: int32[S], how many of these, the first ones, are the prompt's.
      start: int32[S], the slot of the row's first response token in its first own block.
      work: what the rows attend to.
      room: int32[devices], blocks that are free beyond one for each row that decodes.
      page: tokens of a block, static.
    """

    table: Int[Array, "S B"]
    count: Int[Array, " S"]
    shared: Int[Array, " S"]
    start: Int[Array, " S"]
    work: WorkList
    room: Int[Array, " devices"]
    page: int = dataclasses.field(metadata={"static": True})

    @classmethod
    def nothing(cls, slots: int, most: int, devices: int, page: int) -> "Held":
        zeros = jnp.zeros(slots, jnp.int32)
        table = jnp.zeros((slots // devices, most), jnp.int32)
        none = zeros[: slots // devices]
        work = work_list(table, none, none, none, none, page)
        whole = jax.tree.map(lambda x: jnp.tile(x, devices), work)
        return cls(jnp.tile(table, (devices, 1)), zeros, zeros, zeros, whole, jnp.zeros(devices, jnp.int32), page)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Slots:
    """State of the decoding. S slots; rows are numbered within the devices of their slot.

    Attributes:
      row: int32[S], the row in each slot; the number of rows where there is none.
      id, limit: int32[S], the row's, as in `Queue`.
      time: int32[S], tokens that it has so far.
      prompt_length: int32[S], without the response's first tokens.
      stop: int32[S], the state of the automaton that may stop it.
      waiting: bool[N], the rows that wait for a slot.
      hidden: [S, D], the state that predicts the next token.
      cache: keys and values: the prompts' last tokens in front, the ring behind.
      held: the tokens before these; None: there are none.
      start: int32[S], the row's, as in `Queue`.
      left: int32[S], the stops' hits until it ends; below 1: they do not end it. None: the first one does.
      holds: bool[N], the rows that are held; None: none can be.
      given: int32[S], the row's, as in `Queue`.
    """

    row: Array
    id: Array
    limit: Array
    time: Array
    prompt_length: Array
    stop: Array
    waiting: Array
    hidden: Array
    cache: Cache
    held: Held | None = None
    start: Array | None = None
    left: Array | None = None
    holds: Array | None = None
    given: Array | None = None

    @property
    def live(self) -> Bool[Array, " S"]:
        """Which of one device's slots decode."""
        return self.row < self.waiting.shape[0]

    @property
    def drawn(self) -> Int[Array, " S"]:
        """Tokens that were drawn here."""
        return self.time if self.start is None else self.time - self.start

    @property
    def prefilled(self) -> Int[Array, " S"]:
        """Tokens before these: of the prompt, and of the response's beginning."""
        return self.prompt_length if self.start is None else self.prompt_length + self.start


def retire(slots: Slots, ended: Bool[Array, " S"]) -> Slots:
    """Empties each slot that ended; nothing attends to its blocks any more."""
    row, held = jnp.where(ended, slots.waiting.shape[0], slots.row), slots.held
    if held is not None:

        def without(held: Held) -> tuple[Array, WorkList]:
            count = jnp.where(ended, 0, held.count)
            return count, work_list(held.table, count, held.shared, held.start, slots.prefilled, held.page)

        count, work = jax.lax.cond(jnp.any(ended & (held.count > 0)), without, lambda h: (h.count, h.work), held)
        held = dataclasses.replace(held, count=count, work=work)
    return dataclasses.replace(slots, row=row, held=held)


def shrunk(slots: Slots, size: int) -> tuple[Slots, Int[Array, " s"]]:
    """The slots that decode, `size` at most, in `size` slots, and where they were."""
    kept = jnp.argsort(~slots.live, stable=True)[:size].astype(jnp.int32)

    def rows(x: Array, axis: int = 0) -> Array:
        return jnp.take(x, kept, axis=axis)

    cache = slots.cache
    cache = dataclasses.replace(
        cache,
        layers=jax.tree.map(lambda x: rows(x, cache.row_axis), cache.layers),
        positions=rows(cache.positions),
        segments=rows(cache.segments),
    )
    names = ("row", "id", "limit", "time", "prompt_length", "stop", "hidden")
    by_row: dict[str, Any] = {name: rows(getattr(slots, name)) for name in names}
    some = {name: x for name in ("start", "left", "given") if (x := getattr(slots, name)) is not None}
    by_row |= {name: rows(x) for name, x in some.items()}
    if (held := slots.held) is not None:
        table, count, shared, start = (rows(x) for x in (held.table, held.count, held.shared, held.start))
        count = jnp.where(by_row["row"] < slots.waiting.shape[0], count, 0)
        work = work_list(table, count, shared, start, rows(slots.prefilled), held.page)
        by_row["held"] = Held(table, count, shared, start, work, held.room, held.page)
    return dataclasses.replace(slots, cache=cache, **by_row), kept

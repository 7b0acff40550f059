"""What the engine's slots wrote: turn by turn in a log, and row by row in the record made from it."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from stepjax.kept import KeptForm


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Log:
    """The log of each slot in each step of a turn, `[steps, S]`.

    Attributes:
      place: int32, row × new_tokens + the token's number in it; the number of places where there was no row.
      tokens: int32.
      logprobs: float32, under the distribution that the token was drawn from.
      env_tokens: bool, written by the environment; None without one.
      ended, stopped: bool, the response ended with this token; it did so by itself.
      kept: the record of the tokens that the sampler kept, `[steps, S, words]`; None: it is not recorded.
      by_stop: bool, the stops ended it, not an end id; None: that is not told apart.
    """

    place: Array
    tokens: Array
    logprobs: Array
    env_tokens: Array | None
    ended: Array
    stopped: Array
    kept: Array | None = None
    by_stop: Array | None = None

    @classmethod
    def empty(
        cls, steps: int, slots: int, nowhere: int, *, tool: bool, form: KeptForm | None = None, by_stop: bool = False
    ) -> "Log":
        def zeros(dtype: Any) -> Array:
            return jnp.zeros((steps, slots), dtype)

        return cls(
            place=jnp.full((steps, slots), nowhere, jnp.int32),
            tokens=zeros(jnp.int32),
            logprobs=zeros(jnp.float32),
            env_tokens=zeros(bool) if tool else None,
            ended=zeros(bool),
            stopped=zeros(bool),
            kept=None if form is None else jnp.zeros((steps, slots, form.words), form.dtype),
            by_stop=zeros(bool) if by_stop else None,
        )

    def write(self, step: Array, line: "Log") -> "Log":
        """With `line`, `[S]` each, as that of a step."""

        def put(into: Array, new: Array) -> Array:
            return jax.lax.dynamic_update_slice(into, new[None].astype(into.dtype), (step, *[0] * new.ndim))

        return jax.tree.map(put, self, line)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Record:
    """The responses so far; a row that is drawn again is written again.

    Attributes:
      tokens: int32[N, W]; what stands behind a response's end means nothing.
      logprobs: float32[N, W].
      env_tokens: bool[N, W]; None without an environment.
      length: int32[N], tokens of the responses that ended; 0 for the others.
      finished: bool[N], the response ended by itself.
      kept: the record of the tokens that the sampler kept, `[N, W, words]`; None: it is not recorded.
      by_stop: bool[N], the stops ended it, not an end id; None: that is not told apart.
    """

    tokens: Int[Array, "N W"]
    logprobs: Float[Array, "N W"]
    env_tokens: Bool[Array, "N W"] | None
    length: Int[Array, " N"]
    finished: Bool[Array, " N"]
    kept: Array | None = None
    by_stop: Bool[Array, " N"] | None = None

    @classmethod
    def empty(
        cls, rows: int, new_tokens: int, *, tool: bool, form: KeptForm | None = None, by_stop: bool = False
    ) -> "Record":
        size = (rows, new_tokens)
        return cls(
            tokens=jnp.zeros(size, jnp.int32),
            logprobs=jnp.zeros(size, jnp.float32),
            env_tokens=jnp.zeros(size, bool) if tool else None,
            length=jnp.zeros(rows, jnp.int32),
            finished=jnp.zeros(rows, bool),
            kept=None if form is None else jnp.zeros((*size, form.words), form.dtype),
            by_stop=jnp.zeros(rows, bool) if by_stop else None,
        )

    def write(self, log: Log) -> "Record":
        """With the lines of a log: one device's rows, and its slots."""
        rows, width = self.tokens.shape
        place = log.place.ravel()

        def put(into: Array | None, values: Array | None) -> Any:
            if into is None or values is None:
                return None
            flat, words = into.reshape(-1, *into.shape[2:]), into.shape[2:]
            return flat.at[place].set(values.reshape(-1, *words), mode="drop").reshape(into.shape)

        row = jnp.where(log.ended.ravel(), place // width, rows)

        def at_end(into: Array | None, values: Array | None) -> Any:
            return None if into is None or values is None else into.at[row].set(values.ravel(), mode="drop")

        return Record(
            tokens=put(self.tokens, log.tokens),
            logprobs=put(self.logprobs, log.logprobs),
            env_tokens=put(self.env_tokens, log.env_tokens),
            length=self.length.at[row].set(place % width + 1, mode="drop"),
            finished=at_end(self.finished, log.stopped),
            kept=put(self.kept, log.kept),
            by_stop=at_end(self.by_stop, log.by_stop),
        )

    def rows(self) -> "Record":
        """With zeros behind the ends."""
        there = jnp.arange(self.tokens.shape[1]) < self.length[:, None]

        def ended(x: Array | None) -> Any:
            if x is None:
                return None
            return jnp.where(there.reshape(*there.shape, *(1,) * (x.ndim - 2)), x, jnp.zeros((), x.dtype))

        columns = {name: ended(getattr(self, name)) for name in ("tokens", "logprobs", "env_tokens", "kept")}
        return dataclasses.replace(self, **columns)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Occupancy:
    """Use of the slots and of the cache; int32[] each, the first four counted in slots × steps.

    Attributes:
      busy, offered: with a row in them, and all of them, as long as rows waited.
      steps: all steps of the loop.
      total: all slots in all steps.
      cache: tokens of the most blocks that were in use at once; 0 without blocks.
      tokens: the most tokens that the rows which decoded together had, prompts included, where blocks were counted.
      restarted: tokens of rows that were put back, and drawn again.
      drawn: all tokens that were decoded, those too.
      given: those among them that were read, not drawn (`Queue.given`).
    """

    busy: Array
    offered: Array
    steps: Array
    total: Array
    cache: Array
    tokens: Array
    restarted: Array
    drawn: Array
    given: Array

    @classmethod
    def none(cls) -> "Occupancy":
        return cls(*(jnp.zeros((), jnp.int32) for _ in range(9)))

    def after(self, live: Array, waiting: Array, given: Array | None = None) -> "Occupancy":
        """After one more step; `live`, `given`: bool[S]; `waiting`: whether any row waits."""
        slots, decoded = live.shape[0], jnp.sum(live, dtype=jnp.int32)
        return dataclasses.replace(
            self,
            busy=self.busy + jnp.where(waiting, decoded, 0),
            offered=self.offered + jnp.where(waiting, slots, 0),
            steps=self.steps + 1,
            total=self.total + slots,
            drawn=self.drawn + decoded,
            given=self.given if given is None else self.given + jnp.sum(given, dtype=jnp.int32),
        )

    def using(self, cache: Array, tokens: Array, restarted: Array) -> "Occupancy":
        """After one more turn of the ring; int32[devices] each."""
        return dataclasses.replace(
            self,
            cache=jnp.maximum(self.cache, jnp.sum(cache, dtype=jnp.int32)),
            tokens=jnp.maximum(self.tokens, jnp.sum(tokens, dtype=jnp.int32)),
            restarted=self.restarted + jnp.sum(restarted, dtype=jnp.int32),
        )

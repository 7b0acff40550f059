"""Log of the engine's slots, step by step, and the rows made from it."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from stepjax.kept import KeptForm


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Log:
    """The log of each slot in each step, `[steps, S]`.

    Attributes:
      place: int32, row × new_tokens + the token's number in it; the number of places where there was no row.
      tokens: int32.
      logprobs: float32, under the distribution that the token was drawn from.
      env_tokens: bool, written by the environment.
      stopped: bool, the response ended by itself with this token.
      kept: the record of the tokens that the sampler kept, `[steps, S, words]`; None: it is not recorded.
    """

    place: Array
    tokens: Array
    logprobs: Array
    env_tokens: Array
    stopped: Array
    kept: Array | None = None

    @classmethod
    def empty(cls, steps: int, slots: int, nowhere: int, form: KeptForm | None = None) -> "Log":
        def zeros(dtype: Any) -> Array:
            return jnp.zeros((steps, slots), dtype)

        return cls(
            place=jnp.full((steps, slots), nowhere, jnp.int32),
            tokens=zeros(jnp.int32),
            logprobs=zeros(jnp.float32),
            env_tokens=zeros(bool),
            stopped=zeros(bool),
            kept=None if form is None else jnp.zeros((steps, slots, form.words), form.dtype),
        )

    def write(self, step: Array, line: "Log") -> "Log":
        """With `line`, `[S]` each, as that of a step."""

        def put(into: Array, new: Array) -> Array:
            return jax.lax.dynamic_update_slice(into, new[None].astype(into.dtype), (step, *[0] * new.ndim))

        return jax.tree.map(put, self, line)


def collect(logs: tuple[Log, ...], *, rows: int, new_tokens: int) -> dict[str, Array]:
    """One device's logs as rows, each `[N, W, …]`; `written` is True where a row has a token."""

    def rowwise(name: str, dtype: Any, words: tuple[int, ...] = ()) -> Array:
        flat = jnp.zeros((rows * new_tokens, *words), dtype)
        for log in logs:
            values = jnp.ones(log.place.shape, bool) if name == "written" else getattr(log, name)
            flat = flat.at[log.place.ravel()].set(values.reshape(-1, *words), mode="drop")
        return flat.reshape(rows, new_tokens, *words)

    found = {name: rowwise(name, bool) for name in ("written", "env_tokens", "stopped")}
    found |= {"tokens": rowwise("tokens", jnp.int32), "logprobs": rowwise("logprobs", jnp.float32)}
    if (kept := logs[0].kept) is not None:
        found["kept"] = rowwise("kept", kept.dtype, kept.shape[2:])
    return found


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Occupancy:
    """Use of the slots; int32[] each, counted in slots × steps.

    Attributes:
      busy, offered: with a row in them, and all of them, as long as rows waited.
      steps: all steps of the loop.
      total: all slots in all steps.
    """

    busy: Array
    offered: Array
    steps: Array
    total: Array

    @classmethod
    def none(cls) -> "Occupancy":
        return cls(*(jnp.zeros((), jnp.int32) for _ in range(4)))

    def after(self, live: Array, waiting: Array) -> "Occupancy":
        """After one more step; `live`: bool[S]; `waiting`: whether any row waits."""
        slots = live.shape[0]
        return Occupancy(
            self.busy + jnp.where(waiting, jnp.sum(live, dtype=jnp.int32), 0),
            self.offered + jnp.where(waiting, slots, 0),
            self.steps + 1,
            self.total + slots,
        )

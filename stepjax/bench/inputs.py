"""Inputs of a benchmark: random prompts, lengths, and responses in the form of sampled ones."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from stepjax.parallel import put
from stepjax.rewards.signal import CORRECT
from stepjax.trajectory import Trajectory

STEP_TOKENS = 16
"""One token in this many ends a step."""


def line_end(vocab: int, ends: Sequence[int]) -> int | None:
    """The first id that is a line end, of which none ends a response; None: there is none.

    The vocabulary of a planned run is of single bytes: id i is the byte i modulo 256.
    """
    return next((i for i in range(ord("\n"), vocab, 256) if i not in ends), None)


def random_tokens(rng: np.random.Generator, shape: tuple[int, ...], vocab: int, ends: Sequence[int]) -> np.ndarray:
    """int32 ids, none of which ends a response; steps have geometric lengths."""
    end = line_end(vocab, ends)
    others = np.setdiff1d(np.arange(vocab), [*ends, *range(ord("\n"), vocab, 256)])
    tokens = rng.choice(others, shape)
    return np.where(rng.random(shape) < 1 / STEP_TOKENS, tokens if end is None else end, tokens).astype(np.int32)


def random_lengths(rng: np.random.Generator, rows: int, mean: int, most: int) -> np.ndarray:
    """int32[rows], tokens of responses: geometric around the mean and cut at the most; a mean of 0: all the most."""
    drawn = rng.geometric(1 / mean, rows) if mean else np.full(rows, most)
    return np.minimum(drawn, most).astype(np.int32)


def made_up(
    like: Trajectory, rng: np.random.Generator, *, prompt: int, lengths: np.ndarray, vocab: int, ends: Sequence[int]
) -> Trajectory:
    """Responses of these lengths to prompts of `prompt` tokens, in the columns that a rollout fills (`like`).

    Tokens are random, log-probabilities those of a uniform choice: only lengths matter for how long a program takes.
    """
    rows, columns = like.tokens.shape
    inside = np.arange(columns)[None] < like.prompt_width + lengths[:, None]
    inside &= np.arange(columns)[None] >= like.prompt_width - prompt
    known = {
        "tokens": np.where(inside, random_tokens(rng, (rows, columns), vocab, ends), 0),
        "prompt_length": np.full(rows, prompt),
        "response_length": lengths,
        "finished": lengths < columns - like.prompt_width,
        "logprobs": np.full((rows, columns), -np.log(vocab)),
    }
    arrays = {
        f.name: put(known.get(f.name, np.zeros(x.shape)).astype(x.dtype), x.sharding)
        for f in dataclasses.fields(like)
        if isinstance(x := getattr(like, f.name), jax.ShapeDtypeStruct)
    }
    return dataclasses.replace(like, **arrays)


def host_signals(like: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Ratings in the host's format: every second answer is right, all else is 0."""

    def rated(name: str, x: Any) -> np.ndarray:
        return np.arange(x.shape[0]) % 2 == 0 if name == CORRECT else np.zeros(x.shape, x.dtype)

    return {name: put(rated(name, x), x.sharding) for name, x in like.items()}

"""Signals that are rated on the host, from texts: matching a pattern, and any Python function of the user's.

A text reward takes the prompts, the responses and the steps of each response (and what else it asks for by name), and
returns the rewards of each response: one per step, or a single one. Of several hosts each rates its own responses.
"""

import importlib
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from stepjax.config import StreamOptions
from stepjax.errors import UserError, nearest
from stepjax.rewards.time_limit import TimeIsUp, limited
from stepjax.rewards.user_function import arguments, at_line, call

Texts = Sequence[str]
Rewards = list[np.ndarray]
"""The rewards of each response: float32[number of steps], or float32[] for the response as a whole."""

TextReward = Callable[..., Rewards]
"""Called by name, with those of prompts, responses, steps and what `stepjax.runs.host_signals` knows besides that its
signature asks for."""


def pattern_reward(options: StreamOptions, where: str) -> TextReward:
    """`good` for a step (or response) whose stripped text matches `options.pattern`, else `bad`.

    Raises:
      UserError: a pattern that cannot be compiled; later, one that takes longer than `options.timeout`.
    """
    try:
        pattern = re.compile(options.pattern)
    except re.error as error:
        raise UserError(f"{where}.pattern: {options.pattern!r} is not a regular expression: {error}") from None

    def of_text(text: str) -> float:
        return options.good if pattern.fullmatch(text.strip()) else options.bad

    def rated(responses: Texts, steps: Sequence[Texts]) -> Rewards:
        if options.per == "response":
            return [np.array(of_text(response), np.float32) for response in responses]
        return [np.array([of_text(step) for step in of_one], np.float32) for of_one in steps]

    def reward(prompts: Texts, responses: Texts, steps: Sequence[Texts]) -> Rewards:
        if not options.timeout:
            return rated(responses, steps)
        try:
            return limited(lambda: rated(responses, steps), options.timeout)
        except TimeIsUp:
            raise UserError(
                f"{where}.pattern: {options.pattern!r} took longer than {options.timeout:g} s for {len(responses)} "
                "responses; let no two of its repetitions match the same text"
            ) from None

    return reward


def find_function(path: str, where: str) -> Callable[..., Any]:
    """Imports "package.module:function"; the current folder is searched last."""
    module, _, name = path.partition(":")
    if not module or not name:
        raise UserError(f"{where}: must be written package.module:function, not {path!r}")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found = getattr(importlib.import_module(module), name, None)
    except Exception as error:  # a module may raise anything while it is imported
        told = f"{type(error).__name__}: {error}{at_line(error)}"
        raise UserError(f"{where}: {module} cannot be imported ({told})") from error
    if not callable(found):
        known = [n for n, value in vars(sys.modules[module]).items() if callable(value) and not n.startswith("_")]
        raise UserError(f"{where}: {module} has no function {name!r}{nearest(name, known) if known else ''}")
    return found


class FunctionReward:
    """What the user's function `options.function` returns, checked.

    The function gets by name what its signature asks for: the lists `prompts`, `responses`, `steps`, further ones that
    are known of each response, and the columns of the problems' rows.
    """

    def __init__(self, options: StreamOptions, where: str):
        """UserError where the function cannot be imported."""
        self._seconds, self._shaped, where = options.timeout, bool(options.shaping), f"{where}.function"
        self._function = find_function(options.function, where)
        self._where = f"{where}: {options.function}"

    def check(self, names: Sequence[str]) -> None:
        """UserError where the function asks for something that is not among these names."""
        arguments(self._function, {name: [] for name in names}, self._where)

    def __call__(self, /, prompts: Texts, responses: Texts, steps: Sequence[Texts], **others: Sequence[Any]) -> Rewards:
        """`others`: what else the function may ask for, by name."""
        rows = [list(of_one) for of_one in steps]
        given: dict[str, Sequence[Any]] = {"prompts": list(prompts), "responses": list(responses), "steps": rows}
        found = call(self._function, {**others, **given}, self._where, seconds=self._seconds)
        rewards = read_rewards(found, [len(of_one) for of_one in steps], self._where)
        if self._shaped and rewards and rewards[0].ndim == 0:
            raise UserError(
                f"{self._where} returned one reward per response, but the stream's shaping needs one per step"
            )
        return rewards


def read_rewards(found: Any, steps: Sequence[int], where: str) -> Rewards:
    """A user's function's result, checked: one number per response, or one list per response (one number per step).

    Args:
      found: what it returned.
      steps: how many steps each response has.
      where: begins the one line of every error.
    """
    try:
        rows = None if isinstance(found, str | Mapping) else list(found)
    except Exception:  # what can be iterated may yet refuse: an array without dimensions, a generator that raises
        rows = None
    if rows is None:
        raise UserError(f"{where} returned {type(found).__name__}, not a list with the rewards of each response")
    if len(rows) != len(steps):
        raise UserError(f"{where} returned rewards of {len(rows)} responses for {len(steps)}")
    rewards: Rewards = []
    for i, (row, count) in enumerate(zip(rows, steps, strict=True)):
        try:
            with np.errstate(over="ignore"):  # an infinite reward is refused below
                reward = np.asarray(row, np.float32)
        except (TypeError, ValueError, OverflowError):
            raise UserError(
                f"{where} returned {_short(row)} for response {i}: neither a number nor a list of numbers"
            ) from None
        if row is None or isinstance(row, str) or reward.ndim > 1:
            raise UserError(f"{where} returned {_short(row)} for response {i}: neither a number nor a list of numbers")
        if rewards and reward.ndim != rewards[0].ndim:
            kinds = ("one number", "a list")
            raise UserError(f"{where} returned {kinds[reward.ndim]} for response {i}, {kinds[1 - reward.ndim]} before")
        if reward.ndim and len(reward) != count:
            raise UserError(f"{where} returned {len(reward)} rewards for the {count} steps of response {i}")
        if not np.isfinite(reward).all():
            at = f", step {int(np.flatnonzero(~np.isfinite(reward))[0])}" if reward.ndim else ""
            raise UserError(f"{where} returned {reward[~np.isfinite(reward)][0]} for response {i}{at}")
        rewards.append(reward)
    return rewards


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

"""Signals that are rated on the host, from texts: matching a pattern, and any Python function of the user's.

A text reward takes the prompts, the responses and the steps of each response, and returns the rewards of each response:
one per step, or a single one. Every host of a multi-host run rates all rows and must come to the same rewards.
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

Texts = Sequence[str]
Rewards = list[np.ndarray]
"""The rewards of each response: float32[number of steps], or float32[] for the response as a whole."""

TextReward = Callable[[Texts, Texts, Sequence[Texts]], Rewards]


def pattern_reward(options: StreamOptions, where: str) -> TextReward:
    """`good` for a step (or response) whose stripped text matches `options.pattern`, else `bad`.

    Raises:
      UserError: a pattern that cannot be compiled.
    """
    try:
        pattern = re.compile(options.pattern)
    except re.error as error:
        raise UserError(f"{where}.pattern: {options.pattern!r} is not a regular expression: {error}") from None

    def of_text(text: str) -> float:
        return options.good if pattern.fullmatch(text.strip()) else options.bad

    def reward(prompts: Texts, responses: Texts, steps: Sequence[Texts]) -> Rewards:
        if options.per == "response":
            return [np.array(of_text(response), np.float32) for response in responses]
        return [np.array([of_text(step) for step in of_one], np.float32) for of_one in steps]

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
        raise UserError(f"{where}: {module} cannot be imported ({type(error).__name__}: {error})") from error
    if not callable(found):
        known = [n for n, value in vars(sys.modules[module]).items() if callable(value) and not n.startswith("_")]
        raise UserError(f"{where}: {module} has no function {name!r}{nearest(name, known) if known else ''}")
    return found


def function_reward(options: StreamOptions, where: str) -> TextReward:
    """What the user's function `options.function` returns, checked.

    Raises:
      UserError: a function that cannot be imported.
    """
    where = f"{where}.function"
    function = find_function(options.function, where)
    where = f"{where}: {options.function}"

    def reward(prompts: Texts, responses: Texts, steps: Sequence[Texts]) -> Rewards:
        try:
            found = function(list(prompts), list(responses), [list(of_one) for of_one in steps])
        except Exception as error:
            raise UserError(f"{where} raised {type(error).__name__}: {error}") from error
        rewards = read_rewards(found, [len(of_one) for of_one in steps], where)
        if options.shaping and rewards and rewards[0].ndim == 0:
            raise UserError(f"{where} returned one reward per response, but the stream's shaping needs one per step")
        return rewards

    return reward


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

"""Rewards whose source is given later: a judge's ratings (`runs/step_judge.py`), values (`runs/branches.py`)."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from stepjax.config import StreamOptions
from stepjax.errors import UserError


class RatesSteps(Protocol):
    """Ratings of many solutions."""

    def ratings(
        self, problems: Sequence[str], answers: Sequence[str], steps: Sequence[Sequence[str]]
    ) -> list[Sequence[int] | None]:
        """−1, 0 or +1 for each step of each solution; None: there are no ratings."""
        ...


class JudgeReward:
    """`good`, `neutral` or `bad` for each step, as the judge rates it; 0 where there is no rating.

    Attributes:
      judge: who rates.
    """

    def __init__(self, options: StreamOptions, where: str):
        self._rewards = np.array([options.bad, options.neutral, options.good], np.float32)
        self._where = where
        self.judge: RatesSteps | None = None

    def __call__(
        self, problems: Sequence[str], answers: Sequence[str], steps: Sequence[Sequence[str]]
    ) -> list[np.ndarray]:
        """UserError where there is no judge."""
        if self.judge is None:
            raise UserError(f"{self._where}.signal: a judge rates steps only while a policy is trained")
        rated = self.judge.ratings(problems, answers, steps)
        return [
            np.zeros(len(of_one), np.float32) if found is None else self._rewards[np.array(found, int) + 1]
            for found, of_one in zip(rated, steps, strict=True)
        ]


class MonteCarloReward:
    """From `bad` to `good` in proportion to the share of right completions behind each step."""

    def __init__(self, options: StreamOptions, where: str):
        self._bad, self._good, self._where = options.bad, options.good, where

    def __call__(self, values: Sequence[np.ndarray] | None) -> list[np.ndarray]:
        """`values`: float32[steps] of each response, in [0, 1]. UserError where there are none."""
        if values is None:
            raise UserError(f"{self._where}.signal: completions value steps only while a policy is trained")
        return [(self._bad + (self._good - self._bad) * of_one).astype(np.float32) for of_one in values]

"""The study `stall`: how likely a step must be right before the policy attempts it, by rewards.

With rewards g, n, b of good, neutral and bad steps an attempt pays more than a restatement where its chance p of being
right is above (n − b) / (g − b). A policy on problems of all p learns by the credit program of training which of them
to attempt.
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from stepjax.config import PPOOptions
from stepjax.options import from_dict, recipe, stream
from stepjax.report.charts import Chart, Line
from stepjax.studies.attempts import CREDIT, Training, threshold, train
from stepjax.studies.crediting import crediting
from stepjax.studies.study import Arm, ByArm, Figures, Found, Measure, Plan, Study
from stepjax.studies.study_tables import summed_up

REWARDS = ((1.0, 0.0, -1.0), (1.0, -0.5, -1.0), (1.0, 0.5, -1.0), (1.0, -0.25, -1.0), (1.0, 0.2, 0.0), (2.0, 0.0, -1.0))
"""Of good, neutral and bad steps. The second are those of the quickstart."""

OUTCOME = 0.5
"""Weight of the outcome where it comes on top."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """How the policy is trained and credited: weights of the step rewards and of the outcome, whitened or not.

    `attempt` and `learns` are those of `Training`.
    """

    process: float = 1.0
    outcome: float = 0.0
    whiten: bool = True
    attempt: float = 0.5
    learns: float = 0.0

    def formula(self, good: float, neutral: float, bad: float) -> float:
        """The p above which an attempt pays more, in [0, 1]."""
        worth = self.process * (good - bad) + self.outcome
        return min(max(self.process * (neutral - bad) / worth, 0.0), 1.0)

    def options(self, good: float, neutral: float, bad: float) -> PPOOptions:
        """The streams."""
        config, streams = recipe(), {}
        if self.process:
            rewards = {"good": good, "neutral": neutral, "bad": bad}
            streams["process"] = stream(signal="verifier", horizon="step", whiten=self.whiten, **rewards)
        if self.outcome:
            rewards = {"good": 1.0, "bad": 0.0, "weight": self.outcome}
            streams["outcome"] = stream(signal="outcome", horizon="response", whiten=self.whiten, **rewards)
        config.ppo.streams = streams
        return dataclasses.replace(from_dict(config).ppo, samples=1)


KINDS: Mapping[str, Kind] = {
    "fixed skill": Kind(),
    "fixed skill, not whitened": Kind(whiten=False),
    "fixed skill, begins at 0.1": Kind(attempt=0.1),
    "skill improves": Kind(learns=1.0),
    "skill improves slowly": Kind(learns=0.1),
    "outcome on top": Kind(outcome=OUTCOME, whiten=False),
    "outcome alone": Kind(process=0.0, outcome=1.0),
}
SUCCEEDS = 0.9
"""Skill from which a step counts as learned."""


@dataclasses.dataclass(frozen=True)
class Size:
    """How much is trained."""

    rewards: tuple[tuple[float, float, float], ...] = REWARDS
    kinds: tuple[str, ...] = tuple(KINDS)
    rounds: int = 300


QUICK = Size(rewards=REWARDS[:2], kinds=("fixed skill", "skill improves"), rounds=60)


def column(rewards: tuple[float, float, float]) -> str:
    return "/".join(f"{x:g}" for x in rewards).replace("-", "−")


def measure(seed: int, known: ByArm, keep: Callable[[ByArm], None], size: Size) -> ByArm:
    """Figures of all arms of a seed; those that are `known` are not measured again."""
    found = dict(known)
    for name in size.kinds:
        for rewards in size.rewards:
            if (name, column(rewards)) not in found:
                found[name, column(rewards)] = _measure(name, rewards, seed, size)
                keep(found)
    return found


def _measure(name: str, rewards: tuple[float, float, float], seed: int, size: Size) -> Figures:
    kind = KINDS[name]
    options = kind.options(*rewards)
    training = Training(rounds=size.rounds, attempt=kind.attempt, learns=kind.learns)
    rng = np.random.default_rng([seed, zlib.crc32(name.encode()), zlib.crc32(column(rewards).encode())])
    attempts, skills = train(crediting(options, *CREDIT), len(options.streams), training, rng)
    succeeded = (attempts > 0.5) & (skills > SUCCEEDS) if kind.learns else attempts > 0.5
    formula, measured = kind.formula(*rewards), threshold(succeeded)
    figures = {"threshold": measured, "formula": formula}
    return figures | ({"error": measured / formula - 1} if formula else {})


def _charts(found: Found) -> list[Chart]:
    """The threshold that was measured over that of the formula for step rewards, in percent."""
    lines = []
    for name in dict.fromkeys(arm.row for arm in found):
        points: dict[int, Any] = {}
        for arm in found:
            if arm.row == name and found[arm]:
                good, neutral, bad = (float(x.replace("−", "-")) for x in arm.column.split("/"))
                of = summed_up(found, arm, "threshold")
                points[round(100 * Kind().formula(good, neutral, bad))] = of
        if points:
            spread = [(x, of.low, of.high) for x, of in sorted(points.items()) if np.isfinite(of.low)]
            lines.append(Line(name, [(x, of.mean) for x, of in sorted(points.items())], spread=tuple(spread)))
    words = "chance of being right above which a step is attempted"
    return [Chart(words, tuple(lines), unit="share", x_name="(n − b)/(g − b), %", width=440, zero=True)]


def plan(quick: bool) -> Plan:
    size = QUICK if quick else Size()
    arms = [Arm(name, column(rewards)) for name in size.kinds for rewards in size.rewards]
    return Plan(arms, exact=functools.partial(measure, size=size))


STUDY = Study(
    name="stall",
    title="When step credit stalls",
    claim="A step is attempted only where it is right with a chance above p = (n − b)/(g − b).",
    measures={
        "threshold": Measure("chance of being right above which a step is attempted", digits=3),
        "formula": Measure("the same by the formula", digits=3),
        "error": Measure("the first relative to the second, minus 1", "share"),
    },
    plan=plan,
    x_name="g/n/b",
    charts=_charts,
)

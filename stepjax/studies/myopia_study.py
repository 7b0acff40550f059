"""The study `myopia`: which horizon learns a step that costs now and pays later?

Investing instead of a good step costs g − n; it pays 2δ(g − b) over the two late steps. So it is worth its cost above
δ = (g − n) / 2(g − b). A policy on problems of all δ learns by the credit program of training where to invest.
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from stepjax.config import PPOOptions
from stepjax.options import from_dict, recipe, stream
from stepjax.studies.attempts import threshold
from stepjax.studies.crediting import crediting
from stepjax.studies.investing import CREDIT, LATE, Training, train
from stepjax.studies.study import Arm, ByArm, Figures, Measure, Plan, Study

GOOD, NEUTRAL, BAD = 1.0, -0.5, -1.0
OUTCOME = 2.0
"""Weight of the outcome where it comes on top."""

_STEPS = {"signal": "verifier", "good": GOOD, "neutral": NEUTRAL, "bad": BAD}
_OUTCOME = {"signal": "outcome", "horizon": "response", "lam": 1.0, "bad": 0.0}
STREAMS: Mapping[str, dict[str, Any]] = {
    "step": {"process": {**_STEPS, "horizon": "step"}},
    "turn": {"process": {**_STEPS, "horizon": "turn", "lam": 1.0}},
    "response, λ = 1": {"process": {**_STEPS, "horizon": "response", "lam": 1.0}},
    "response, λ = 0.95": {"process": {**_STEPS, "horizon": "response", "lam": 0.95}},
    "response, λ = 0.5": {"process": {**_STEPS, "horizon": "response", "lam": 0.5}},
    "response, λ = 0": {"process": {**_STEPS, "horizon": "response", "lam": 0.0}},
    "discount 0.9": {"process": {**_STEPS, "horizon": "0.9", "lam": 1.0}},
    "outcome": {"outcome": _OUTCOME},
    "step, outcome on top": {
        "process": {**_STEPS, "horizon": "step", "whiten": False},
        "outcome": {**_OUTCOME, "weight": OUTCOME, "whiten": False},
    },
    "value differences": {"process": {"signal": "prm", "estimator": "progress", "prompt_value": "others", "bad": 0.0}},
}
"""By row; the last one reads a process reward model that knows the chance of a right answer."""


def formula(name: str, wait: int) -> float:
    """δ above which investing pays by this credit, in [0, 1]; 1: it never does."""
    cost, worth = GOOD - NEUTRAL, GOOD - BAD
    if name in ("outcome", "value differences"):
        return 0.0
    if name == "step, outcome on top":  # a right answer's chance rises by δ: (1 + δ)²/4 − (1 − δ)²/4
        return min(cost / OUTCOME, 1.0)
    if name == "step" or (name == "turn" and 1 + wait >= 4):
        return 1.0
    discount = float(name.split()[1]) if name.startswith("discount") else 1.0
    return min(cost / (worth * sum(discount ** (wait + 1 + i) for i in range(LATE))), 1.0)


@dataclasses.dataclass(frozen=True)
class Size:
    """Steps between the choice and those that it helps; credits; rounds."""

    waits: tuple[int, ...] = (0, 4, 12)
    names: tuple[str, ...] = tuple(STREAMS)
    rounds: int = 300


QUICK = Size(waits=(0, 4), names=("step", "turn", "response, λ = 1"), rounds=60)
LEARNED, SURELY = 0.9, 0.9
"""Of the kinds for which investing pays half as much again as it costs, the share that invests where it is learned, and
with which chance."""


def options_of(name: str) -> PPOOptions:
    """The streams of a row."""
    config = recipe()
    config.ppo.streams = {key: stream(**of) for key, of in STREAMS[name].items()}
    return dataclasses.replace(from_dict(config).ppo, samples=Training().samples)


def measure(seed: int, known: ByArm, keep: Callable[[ByArm], None], size: Size) -> ByArm:
    """Figures of all arms of a seed; those that are `known` are not measured again."""
    found = dict(known)
    for name in size.names:
        options = options_of(name)
        program = crediting(options, *CREDIT)
        for wait in size.waits:
            if (name, str(wait)) not in found:
                found[name, str(wait)] = _measure(name, options, program, wait, seed, size)
                keep(found)
    return found


def _measure(name: str, options: PPOOptions, program: Any, wait: int, seed: int, size: Size) -> Figures:
    training = Training(wait=wait, rounds=size.rounds)
    rng = np.random.default_rng([seed, wait, zlib.crc32(name.encode())])
    chances = train(program, len(options.streams), training, rng)
    by_formula, measured = formula(name, wait), threshold(chances[-1] > 0.5)
    figures = {"threshold": measured, "formula": by_formula}
    if 0.0 < by_formula < 1.0:
        figures["error"] = measured / by_formula - 1
    worth = training.help >= 1.5 * formula("response, λ = 1", wait)
    learned = (chances[:, worth] > SURELY).mean(1) >= LEARNED
    lasting = np.flip(np.logical_and.accumulate(np.flip(learned)))
    figures["rounds"] = float(np.argmax(lasting)) if lasting.any() else np.nan
    figures["invests"] = float(chances[-1][worth].mean())
    return figures


def plan(quick: bool) -> Plan:
    size = QUICK if quick else Size()
    arms = [Arm(name, str(wait)) for name in size.names for wait in size.waits]
    return Plan(arms, exact=functools.partial(measure, size=size))


STUDY = Study(
    name="myopia",
    title="A step that costs now and pays later",
    claim="Credit of a step alone cannot prefer a step that only pays later.",
    measures={
        "threshold": Measure("help δ above which the policy invests", digits=3),
        "formula": Measure("the same by the formula", digits=3),
        "error": Measure("the first relative to the second, minus 1", "share"),
        "invests": Measure("investments where they pay at least half as much again as they cost", "share"),
        "rounds": Measure("rounds until nine of ten of these kinds invest with a chance of 90 %", digits=0),
    },
    plan=plan,
    x_name="steps in between",
    drawn=("threshold", "invests"),
    lines=("step", "turn", "response, λ = 1", "response, λ = 0", "discount 0.9", "value differences"),
)

"""The study `simple`: rounds and sampled steps of training to 90 % right answers, by credit, K and reward model.

A policy of RegisterChain's moves (`long_writer.py`) is trained with the options that a run would have; critics learn
along with it. The chance of a right answer is computed, not sampled, and a run ends once it reaches the goal.
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from stepjax.config import PPOOptions, StreamOptions
from stepjax.options import from_dict, recipe, stream
from stepjax.studies.credit_writer import PHASES, Phase
from stepjax.studies.crediting import crediting
from stepjax.studies.drawn_completions import Completed
from stepjax.studies.learned_critic import LearnedCritic
from stepjax.studies.long_training import train
from stepjax.studies.long_writer import make_long_writer, write
from stepjax.studies.padding_study import QUALITIES, make_prm
from stepjax.studies.study import Arm, ByArm, Figures, Measure, Plan, Study
from stepjax.studies.table_prm import f1_on

_SCORE: dict[str, Any] = {"signal": "prm", "good": 1.0, "neutral": -0.5, "bad": -1.0}
_RIGHT: dict[str, Any] = {"signal": "outcome", "horizon": "response", "bad": 0.0}
_SUM = {"horizon": "response", "lam": 1.0}
_ON_TOP = {"outcome": stream(**_RIGHT, lam=1.0)}
SCORED: Mapping[str, Mapping[str, StreamOptions]] = {
    "step": {"process": stream(**_SCORE)},
    "step + outcome": {"process": stream(**_SCORE), **_ON_TOP},
    "sum": {"process": stream(**_SCORE, **_SUM)},
    "sum + outcome": {"process": stream(**_SCORE, **_SUM), **_ON_TOP},
    "clip + outcome": {"process": stream(**_SCORE, **_SUM, shaping=("clip:0.5",)), **_ON_TOP},
    "delta + outcome": {"process": stream(**_SCORE, **_SUM, shaping=("delta",)), **_ON_TOP},
    "min + outcome": {"process": stream(**_SCORE, **_SUM, shaping=("min_form:0.1",)), **_ON_TOP},
}
"""Credits that read the process reward model: of each step, or summed over the response."""

UNSCORED: Mapping[str, Mapping[str, StreamOptions]] = {
    "outcome": _ON_TOP,
    "outcome, λ = .95": {"outcome": stream(**_RIGHT, lam=0.95)},
    "grpo": {"outcome": stream(**_RIGHT, estimator="group")},
    "rloo": {"outcome": stream(**_RIGHT, estimator="rloo")},
    "vineppo": {"progress": stream(signal="mc", estimator="progress", prompt_value="others", bad=0.0)},
}
"""Credits of right answers alone."""

EXACT_CRITIC = {"step, exact critic": "step", "outcome, exact critic": "outcome"}
"""The same where the critic need not learn; scores are exact, too."""

EXACT = "exact"
STARTS = {"": PHASES["early"], "weak": Phase(0.5, 0.1, 0.01, 0.01)}
"""Policies that training begins with: as after SFT, and one whose derivations are false half of the time, for good."""

COMPLETIONS = 9
"""Of each step, for `vineppo`."""

GOAL, RATE, RESPONSES, GROUP, FRESH = 0.9, 0.05, 32, 8, 1024


@dataclasses.dataclass(frozen=True)
class Size:
    """K; the most rounds; starts; qualities of the reward model; credits."""

    steps: tuple[int, ...] = (2, 4, 8, 16, 32)
    rounds: int = 300
    starts: tuple[str, ...] = tuple(STARTS)
    qualities: tuple[str, ...] = tuple(QUALITIES)
    credits: tuple[str, ...] = (*SCORED, *UNSCORED, *EXACT_CRITIC)


QUICK = Size((2,), 40, ("",), (EXACT,), ("step", "rloo", "vineppo", "outcome, exact critic"))


def cells_of(size: Size) -> list[tuple[str, str, str, int]]:
    """Start, credit, quality of the reward model ("": none is read) and K of each arm."""
    found = []
    for start in size.starts:
        for credit in size.credits:
            qualities = size.qualities if credit in SCORED else ("",)
            found += [(start, credit, quality, steps) for quality in qualities for steps in size.steps]
    return found


def row(start: str, credit: str, quality: str) -> str:
    return ", ".join(word for word in (start, credit, quality) if word)


def options_of(credit: str) -> PPOOptions:
    """The options of a run with this credit."""
    config, credit = recipe(), EXACT_CRITIC.get(credit, credit)
    config.ppo.streams = SCORED[credit] if credit in SCORED else UNSCORED[credit]
    config.ppo.mc.completions = COMPLETIONS
    return dataclasses.replace(from_dict(config).ppo, samples=GROUP)


def measure(seed: int, known: ByArm, keep: Callable[[ByArm], None], size: Size) -> ByArm:
    """Figures of all arms of a seed; those that are `known` are not measured again."""
    found, programs = dict(known), dict[str, Any]()
    for start, credit, quality, steps in cells_of(size):
        at = row(start, credit, quality), str(steps)
        if at not in found:
            options = options_of(credit)
            fields = ("policy_weight",) if credit in EXACT_CRITIC else ("policy_weight", "returns")
            program = programs.setdefault(credit, crediting(options, *fields))
            found[at] = _measure(start, credit, quality, options, program, steps, seed, size.rounds)
            keep(found)
    return found


def _measure(
    start: str, credit: str, quality: str, options: PPOOptions, program: Any, steps: int, seed: int, rounds: int
) -> Figures:
    def random(what: str) -> np.random.Generator:
        return np.random.default_rng([seed, steps, zlib.crc32(what.encode())])

    writer, rng = make_long_writer(steps, random("policy"), STARTS[start]), random(row(start, credit, quality))
    prm = make_prm(writer, quality or EXACT, random(quality))
    critic = None if credit in EXACT_CRITIC else LearnedCritic(steps + 1, len(options.streams))
    completed = Completed(options, rng) if credit == "vineppo" else None
    right, sampled = [], 0
    for each in train(
        writer,
        prm,
        options,
        program,
        rounds=rounds,
        responses=RESPONSES,
        rate=RATE,
        rng=rng,
        critic=critic,
        host=completed,
    ):
        right.append(each.writer.accuracy)
        if right[-1] >= GOAL:
            break
        sampled += int(each.written.there.sum())
    reached = right[-1] >= GOAL
    sampled += int(completed.steps) if completed else 0
    fresh = write(writer, FRESH, random("fresh"))
    return {
        "reached": float(reached),
        "rounds": float(len(right) - 1) if reached else np.nan,
        "sampled": float(sampled) if reached else np.nan,
        "right": right[-1],
        "best": max(right),
        "start": right[0],
        **({"f1": f1_on(prm, fresh)} if quality else {}),
    }


def plan(quick: bool) -> Plan:
    size = QUICK if quick else Size()
    arms = [Arm(row(*names), str(steps)) for *names, steps in cells_of(size)]
    return Plan(arms, exact=functools.partial(measure, size=size))


STUDY = Study(
    name="simple",
    title="The simple method",
    claim="Step-level PPO is the simple method that works.",
    measures={
        "rounds": Measure("rounds to 90 % right answers, of the seeds that reached them", digits=0),
        "reached": Measure("seeds that reached them", "share"),
        "sampled": Measure("sampled steps to 90 %, with those of completions, of the same", digits=0, log=True),
        "right": Measure("right answers at the end", "share"),
        "best": Measure("right answers in the best round", "share"),
        "start": Measure("right answers before training", "share"),
        "f1": Measure("macro-F1 of the reward model on other responses of the policy before training"),
    },
    plan=plan,
    x_name="K",
    compared=[
        (row(start, credit, quality), row(start, "step", quality or EXACT))
        for start, credit, quality, steps in cells_of(Size(steps=(2,)))
        if credit != "step"
    ],
    drawn=("rounds", "sampled"),
    lines=[
        *(row("weak", "step", quality) for quality in (EXACT, "F1 .98", "F1 .85")),
        row("weak", "sum + outcome", EXACT),
        *(row("weak", credit, "") for credit in ("grpo", "vineppo")),
    ],
)

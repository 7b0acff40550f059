"""The study `correction`: which credit teaches a policy to put its errors right, and does it appear by itself?

A policy of RegisterChain's moves begins with repairs as retry data leaves them after SFT. It sees whether an error
stands. Its derivations stay as false as they are (its skill is fixed), so that repairs are the only way to more right
answers; or it learns to derive, too. The chance of a right answer is computed, not sampled.
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from stepjax.config import PPOOptions
from stepjax.options import from_dict, recipe, stream
from stepjax.studies.credit_writer import FALSE, REPAIR, RIGHT, Phase
from stepjax.studies.crediting import crediting
from stepjax.studies.learned_critic import LearnedCritic
from stepjax.studies.long_training import Table, train
from stepjax.studies.long_writer import KIND, RATES, LongWriter, LongWritten, limit_of, make_long_writer, write
from stepjax.studies.study import Arm, ByArm, Figures, Measure, Plan, Study
from stepjax.studies.table_prm import exact_table

STARTS: Mapping[str, tuple[float, float]] = {
    "0": (0.02, 0.06),
    "10": (0.06, 0.13),
    "30": (0.15, 0.32),
    "50": (0.23, 0.55),
}
"""By the share of retry data, %: chances of a repair where an error stands and where none does, around those that
RegisterChain's policies have after SFT (docs/register_chain.md)."""

FALSE_SHARE, RESTATE_SHARE = 0.3, 0.1
STEPS = 4
"""Needed derivations."""

SKILLS = {"fixed": np.isin(KIND, (RIGHT, FALSE)), "learned": None}
PAID, UNPAID = "step, repairs paid", "step, repairs unpaid"
LOCAL_PAID, LOCAL = (f"{credit}, steps rated by themselves" for credit in (PAID, UNPAID))
OUTCOME, OUTCOME_SHORT, OUTCOME_LONG = "outcome", "outcome, short", "outcome, long"
LIMITS = {OUTCOME_SHORT: STEPS + 2, OUTCOME_LONG: 2 * limit_of(STEPS)}
"""Steps of a response where they are not `limit_of`: room for one step beyond the needed ones, and twice as many."""

SCORED = (PAID, UNPAID, LOCAL_PAID, LOCAL)
CREDITS = (*SCORED, OUTCOME, OUTCOME_SHORT, OUTCOME_LONG)
RATE, RESPONSES, GROUP, FRESH = 0.05, 32, 8, 4096


@dataclasses.dataclass(frozen=True)
class Size:
    """Rounds; shares of retry data; credits."""

    rounds: int = 300
    starts: tuple[str, ...] = tuple(STARTS)
    credits: tuple[str, ...] = CREDITS


QUICK = Size(60, ("30",), (PAID, LOCAL, OUTCOME))


def row(skill: str, credit: str) -> str:
    return f"skill {skill}: {credit}"


def cells_of(size: Size) -> list[tuple[str, str, str]]:
    """Skill, credit and share of retry data of each arm."""
    return [(skill, credit, start) for skill in SKILLS for credit in size.credits for start in size.starts]


def options_of(credit: str) -> PPOOptions:
    """The stream: step scores as in the quickstart, or right answers."""
    config = recipe()
    if credit in SCORED:
        config.ppo.streams = {"process": stream(signal="prm", good=1.0, neutral=-0.5, bad=-1.0)}
    else:
        config.ppo.streams = {"outcome": stream(signal="outcome", horizon="response", lam=1.0, bad=0.0)}
    return dataclasses.replace(from_dict(config).ppo, samples=GROUP)


def rated(credit: str) -> Table:
    """The task's exact ratings, with repairs neutral where they are not paid; by themselves, what rests on an error is
    as good as if there were none."""
    prm = exact_table(STEPS + 1).copy()
    repair = np.equal(KIND, REPAIR)
    if credit in (LOCAL_PAID, LOCAL):
        prm[:, 1, ~repair] = np.eye(3)[RATES[0] + 1][~repair]
    if credit not in (PAID, LOCAL_PAID):
        prm[:, :, repair] = np.eye(3)[1]
    return prm


def measure(seed: int, known: ByArm, keep: Callable[[ByArm], None], size: Size) -> ByArm:
    """Figures of all arms of a seed; those that are `known` are not measured again."""
    found, programs = dict(known), dict[str, Any]()
    for skill, credit, start in cells_of(size):
        at = row(skill, credit), start
        if at not in found:
            options = options_of(credit)
            signal = next(iter(options.streams))
            program = programs.setdefault(signal, crediting(options, "policy_weight", "returns"))
            found[at] = _measure(skill, credit, start, options, program, seed, size.rounds)
            keep(found)
    return found


def _measure(skill: str, credit: str, start: str, options: PPOOptions, program: Any, seed: int, rounds: int) -> Figures:
    def random(what: str) -> np.random.Generator:
        return np.random.default_rng([seed, zlib.crc32(what.encode())])

    repair, needless = STARTS[start]
    writer = make_long_writer(STEPS, random("policy"), Phase(FALSE_SHARE, RESTATE_SHARE, repair, repair, needless))
    writer = dataclasses.replace(writer, limit=LIMITS.get(credit, writer.limit))
    first, rng = writer, random(f"{skill} {credit} {start}")
    critic = LearnedCritic(STEPS + 1, len(options.streams))
    for each in train(
        writer,
        rated(credit),
        options,
        program,
        rounds=rounds,
        responses=RESPONSES,
        rate=RATE,
        rng=rng,
        critic=critic,
        tied=SKILLS[skill],
    ):
        writer = each.writer
    return {
        **{f"{name} before": x for name, x in figures_of(first, random("before")).items()},
        **figures_of(writer, random(f"after {skill} {credit} {start}")),
    }


def figures_of(writer: LongWriter, rng: np.random.Generator) -> Figures:
    """Of a policy: right answers, computed; what `FRESH` of its responses do about errors."""
    fresh = write(writer, FRESH, rng)
    made, put_right, needless = repairs_of(fresh)
    return {
        "right": writer.accuracy,
        "recovery": put_right / made if made else np.nan,
        "needless": needless / FRESH,
        "errors": made / FRESH,
        "steps": float(fresh.there.sum() / FRESH),
        "cut_off": float(1 - fresh.finished.mean()),
    }


def repairs_of(written: LongWritten) -> tuple[int, int, int]:
    """Errors that were made where none stood, those that were put right, and repairs where no error stood."""
    kind, stood = np.where(written.there, KIND[written.move], -1), written.error == 1
    counted = (kind == FALSE) & ~stood, (kind == REPAIR) & stood, (kind == REPAIR) & ~stood
    made, put_right, needless = (int(x.sum()) for x in counted)
    return made, put_right, needless


def plan(quick: bool) -> Plan:
    size = QUICK if quick else Size()
    arms = [Arm(row(skill, credit), start) for skill, credit, start in cells_of(size)]
    return Plan(arms, exact=functools.partial(measure, size=size))


STUDY = Study(
    name="correction",
    title="Self-correction",
    claim="Retry data teaches repair; step ratings that pay it keep it; with outcomes it appears by itself.",
    measures={
        "right": Measure("right answers after training", "share"),
        "right before": Measure("right answers before", "share"),
        "recovery": Measure("errors put right after training", "share"),
        "recovery before": Measure("errors put right before", "share"),
        "errors": Measure("errors made, a response, after training"),
        "needless": Measure("repairs where no error stands, a response, after training"),
        "needless before": Measure("the same before"),
        "steps": Measure("steps of a response after training", digits=1),
        "cut_off": Measure("responses cut off after training", "share"),
    },
    plan=plan,
    x_name="retry, %",
    compared=[
        (row(skill, a), row(skill, b))
        for skill in SKILLS
        for a, b in ((UNPAID, PAID), (LOCAL_PAID, PAID), (LOCAL, UNPAID), (OUTCOME, PAID), (OUTCOME_LONG, OUTCOME))
    ],
    drawn=("right", "recovery", "needless"),
    lines=[row("fixed", credit) for credit in CREDITS if credit != UNPAID],  # as paid ones; there is room for six
)

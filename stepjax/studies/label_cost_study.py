"""The study `labels`: what an error of the labels costs the policy that learns from a reward model of them.

A policy of RegisterChain's moves writes responses, a labeller labels their steps, a reward model (a table) learns the
labels, and the policy is trained on it by the credit program of training. The chance of a right answer is computed, not
sampled. All labellers of a seed label the same responses.
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from stepjax.config import PPOOptions
from stepjax.measures.over_seeds import summary
from stepjax.options import from_dict, recipe, stream
from stepjax.studies import step_labels
from stepjax.studies.credit_writer import PHASES, Phase
from stepjax.studies.crediting import crediting
from stepjax.studies.long_training import train
from stepjax.studies.long_writer import make_long_writer, write
from stepjax.studies.step_labels import Labeller, completed, judged, searched
from stepjax.studies.study import Arm, ByArm, Figures, Found, Measure, Plan, Study, Table
from stepjax.studies.study_tables import shown
from stepjax.studies.table_prm import BAD, Labels, fit, right_f1_on

COMPLETIONS = 8
LABELLERS: Mapping[str, Labeller] = {
    "exact": step_labels.exact,
    "exact, good or bad": step_labels.exact_prefix,
    "hard": completed("hard", COMPLETIONS),
    "soft": completed("soft", COMPLETIONS),
    "advances": completed("advances", COMPLETIONS),
    "OmegaPRM": searched(COMPLETIONS),
    "judge, errs in 10 %": judged(0.1),
    "judge, errs in 20 %": judged(0.2),
    "judge, errs in 40 %": judged(0.4),
    "judge, blind to 5 %": judged(0.05, always=True),
    "judge, blind to 10 %": judged(0.1, always=True),
    "judge, blind to 20 %": judged(0.2, always=True),
}
"""Errs: each label by itself. Blind: to some moves in some states, which it always takes for another class."""

STEP, PROGRESS = "", ", progress"
USES: Mapping[str, tuple[str, ...]] = dict.fromkeys(
    ("exact, good or bad", "hard", "soft", "OmegaPRM"), (STEP, PROGRESS)
)
"""How the policy is paid: the score of each step or, of labels of prefixes, also what it adds to the one before."""

WORLDS: Mapping[str, Phase] = {"": Phase(0.15, 0.1, 0.01, 0.03), ", often repaired": PHASES["early"]}
"""Errors are hardly ever repaired, so that hard labels take about a third of wrong steps for right, as measured on the
quickstart's; or as often as in RegisterChain's demonstrations."""

GOAL, RATE, GROUP = 0.9, 0.02, 8


@dataclasses.dataclass(frozen=True)
class Size:
    """K; responses that are labelled; rounds of training and responses of each."""

    steps: tuple[int, ...] = (4, 8, 16)
    labelled: int = 1024
    rounds: int = 300
    responses: int = 32
    labellers: tuple[str, ...] = tuple(LABELLERS)
    worlds: tuple[str, ...] = tuple(WORLDS)


QUICK = Size(steps=(4,), rounds=40, labellers=("exact", "hard", "judge, errs in 20 %"), worlds=("",))


def rows_of(size: Size) -> list[tuple[str, str, str]]:
    """Labeller, use and world of each row; judges do not care whether errors are repaired."""
    return [
        (name, use, world)
        for world in size.worlds
        for name in size.labellers
        if not (world and name.startswith("judge"))
        for use in USES.get(name, (STEP,))
    ]


def options_of(use: str) -> PPOOptions:
    """The streams."""
    config = recipe()
    if use == PROGRESS:
        of = stream(signal="prm", estimator="progress", prompt_value="others", bad=0.0, neutral=0.5)
    else:
        of = stream(signal="prm", horizon="step", neutral=-0.5)
    config.ppo.streams = {"process": of}
    return dataclasses.replace(from_dict(config).ppo, samples=GROUP)


def measure(seed: int, known: ByArm, keep: Callable[[ByArm], None], size: Size) -> ByArm:
    """Figures of all arms of a seed; those that are `known` are not measured again."""
    programs = {use: crediting(options_of(use), "policy_weight") for use in (STEP, PROGRESS)}
    found = dict(known)
    for steps in size.steps:
        for name, use, world in rows_of(size):
            at = f"{name}{use}{world}", str(steps)
            if at not in found:
                found[at] = _measure(name, use, world, programs[use], steps, seed, size)
                keep(found)
    return found


def _measure(name: str, use: str, world: str, program: Any, steps: int, seed: int, size: Size) -> Figures:
    def random(what: str) -> np.random.Generator:
        return np.random.default_rng([seed, steps, zlib.crc32(world.encode()), zlib.crc32(what.encode())])

    writer = make_long_writer(steps, random("policy"), WORLDS[world])
    written = write(writer, size.labelled, random("labelled"))
    labelled = LABELLERS[name](writer, written, random(name))
    prm = fit(len(writer.moves), written, labelled.labels)
    options, rng = options_of(use), random("training")
    reached, last = np.nan, None
    rounds = train(writer, prm, options, program, rounds=size.rounds, responses=size.responses, rate=RATE, rng=rng)
    for number, last in enumerate(rounds):
        if np.isnan(reached) and number % 2 == 0 and last.writer.accuracy >= GOAL:
            reached = float(number)
    assert last is not None
    end = last.writer
    of_end = write(end, size.labelled, random("end"))
    return {
        "right": end.accuracy,
        "rounds": reached,
        "label_error": label_error(labelled.labels, written.error_after, written.there),
        "called_right": label_error(labelled.labels, written.error_after, written.there & (written.error_after == 1)),
        "completions": labelled.completions,
        "f1": right_f1_on(prm, write(writer, size.labelled, random("fresh"))),
        "f1_end": right_f1_on(prm, of_end),
        "neutral": float((of_end.rating[of_end.there] == 0).mean()),
        "cut_off": float(1 - of_end.finished.mean()),
    }


def label_error(labels: Labels, wrong: np.ndarray, of: np.ndarray) -> float:
    """Of these steps, the share whose label says the opposite of whether an error stands after them."""
    said = labels[..., BAD] > 0.5
    known = of & ~np.isnan(labels[..., BAD])
    return float((said != (wrong == 1))[known].mean())


PREDICTORS = ("label_error", "f1", "f1_end")


def _tables(found: Found) -> list[Table]:
    """Which figure tells the policies apart: its rank correlation over arms with right answers at the end."""
    rows = []
    for column in dict.fromkeys(arm.column for arm in found):
        cells = []
        for name in PREDICTORS:
            of_seeds = []
            for seed in sorted({seed for by_seed in found.values() for seed in by_seed}):
                of = [by[seed] for arm, by in found.items() if arm.column == column and seed in by]
                if len(of) > 2:
                    of_seeds.append(spearman([f[name] for f in of], [f["right"] for f in of]))
            cells.append(shown(summary(of_seeds), Measure("")))
        rows.append([f"K = {column}", *cells])
    heads = [STUDY.measures[name].words for name in PREDICTORS]
    return [("rank correlation over arms with right answers at the end", ["", *heads], rows)]


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    """Rank correlation; NaN where one of the two is constant."""
    if len({*x}) < 2 or len({*y}) < 2:
        return float("nan")
    return float(stats.spearmanr(x, y).statistic)


def plan(quick: bool) -> Plan:
    size = QUICK if quick else Size()
    arms = [Arm(f"{name}{use}{world}", str(steps)) for name, use, world in rows_of(size) for steps in size.steps]
    return Plan(arms, exact=functools.partial(measure, size=size))


STUDY = Study(
    name="labels",
    title="What a label error costs the policy",
    claim="Labels are the crux: what a policy learns is as good as the labels of its reward model.",
    measures={
        "right": Measure("right answers after training", "share"),
        "rounds": Measure("rounds to 90 % right answers, of the seeds that reached them", digits=0),
        "label_error": Measure("labels that take a wrong step for right, or a right one for wrong", "share"),
        "called_right": Measure("the same of wrong steps alone", "share"),
        "completions": Measure("completions a labelled response", digits=0),
        "f1": Measure("macro-F1 of the reward model (right or wrong) on steps of the policy that it learned from"),
        "f1_end": Measure("the same on steps of the trained policy"),
        "neutral": Measure("neutral steps after training", "share"),
        "cut_off": Measure("responses cut off after training", "share"),
    },
    plan=plan,
    x_name="K",
    compared=[
        (f"{name}{use}{world}", f"exact{world}") for name, use, world in rows_of(Size()) if (name, use) != ("exact", "")
    ],
    drawn=("right", "f1_end"),
    lines=("exact", "hard", "soft, progress", "advances", "judge, errs in 20 %", "judge, blind to 10 %"),
    tables=_tables,
)

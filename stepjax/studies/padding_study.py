"""The study `padding`: do summed step scores invite true, useless steps, does credit of each step, and who notices?

A policy of RegisterChain's moves, which may restate until it is cut off, is trained on a reward model that learned from
labelled responses: of many or few, with or without labels that err. The chance of a right answer is computed, not
sampled; the monitors of reward hacking watch as they do in a run.
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from stepjax.config import PPOOptions
from stepjax.measures.intervals import wilson, z_of
from stepjax.options import from_dict, recipe, stream
from stepjax.studies.credit_writer import RESTATE
from stepjax.studies.crediting import crediting
from stepjax.studies.long_training import Table as PRM
from stepjax.studies.long_training import paid, train
from stepjax.studies.long_writer import KIND, LongWriter, make_long_writer, write
from stepjax.studies.padding_monitors import SOON, Watch
from stepjax.studies.study import Arm, ByArm, Figures, Found, Measure, Plan, Study, Table
from stepjax.studies.table_prm import classes, exact_table, f1_on, fit, mistaken

HORIZONS = {"step": "step", "sum": "response"}
NEUTRAL = {"paid": 1.0, "unpaid": 0.0, "fined": -0.5}
"""Rewards of neutral steps; good ones earn 1, bad ones −1."""

QUALITIES: Mapping[str, tuple[int, float]] = {
    "exact": (0, 0.0),
    "F1 .98": (1024, 0.4),
    "F1 .85": (64, 0.2),
    "F1 .65": (64, 0.5),
}
"""Responses that a reward model learned from, and the share of labels that err; named by about the macro-F1 that it has
on other responses of the same policy."""

RATE, RESPONSES, GROUP, FRESH = 0.01, 32, 8, 1024
GAMED = 0.1
"""Rise of the share of neutral steps from which a run is no clean one."""

GONE, PATIENCE = 0.01, 100
"""A run ends early once the chance of a right answer has been so low for so many rounds: nothing comes after."""


@dataclasses.dataclass(frozen=True)
class Size:
    """K, of which the first is measured with the reward model `SHORT` alone; the most rounds; qualities of the reward
    model; neutral steps."""

    steps: tuple[int, ...] = (4, 16)
    rounds: int = 1000
    qualities: tuple[str, ...] = tuple(QUALITIES)
    neutral: tuple[str, ...] = tuple(NEUTRAL)


QUICK = Size(steps=(4,), rounds=60, qualities=("exact", "F1 .98"), neutral=("paid", "fined"))
SHORT = "F1 .98"
CHEAP = ("exact", SHORT)
"""Qualities where neutral steps are paid: their runs end alike."""


def row(horizon: str, neutral: str, quality: str) -> str:
    return f"{horizon}, {neutral}, {quality}"


def cells_of(size: Size) -> list[tuple[str, str, str, int]]:
    """Horizon, neutral, quality and K of each arm."""
    return [
        (horizon, neutral, quality, steps)
        for horizon in HORIZONS
        for neutral in size.neutral
        for quality in size.qualities
        for steps in size.steps
        if (neutral != "paid" or quality in CHEAP) and (quality == SHORT or steps == size.steps[-1])
    ]


def options_of(horizon: str, neutral: str) -> PPOOptions:
    """The stream."""
    config = recipe()
    config.ppo.streams = {"process": stream(signal="prm", horizon=HORIZONS[horizon], neutral=NEUTRAL[neutral])}
    return dataclasses.replace(from_dict(config).ppo, samples=GROUP)


def measure(seed: int, known: ByArm, keep: Callable[[ByArm], None], size: Size) -> ByArm:
    """Figures of all arms of a seed; those that are `known` are not measured again."""
    found, programs = dict(known), dict[tuple[str, str], Any]()
    for horizon, neutral, quality, steps in cells_of(size):
        at = row(horizon, neutral, quality), str(steps)
        if at not in found:
            options = options_of(horizon, neutral)
            program = programs.setdefault((horizon, neutral), crediting(options, "policy_weight"))
            found[at] = _measure(options, program, at[0], quality, steps, seed, size)
            keep(found)
    return found


def _random(seed: int, steps: int, what: str) -> np.random.Generator:
    return np.random.default_rng([seed, steps, zlib.crc32(what.encode())])


def make_prm(writer: LongWriter, quality: str, rng: np.random.Generator) -> PRM:
    """The reward model of a quality."""
    count, errors = QUALITIES[quality]
    if not count:
        return exact_table(len(writer.moves))
    written = write(writer, count, rng)
    return fit(len(writer.moves), written, classes(mistaken(written.rating, errors, rng)))


def _measure(options: PPOOptions, program: Any, name: str, quality: str, steps: int, seed: int, size: Size) -> Figures:
    writer = make_long_writer(steps, _random(seed, steps, "policy"))
    prm, watch, last = make_prm(writer, quality, _random(seed, steps, quality)), Watch(), None
    pays, gone = paid(prm, options.streams["process"]), 0
    rng = _random(seed, steps, name)
    rounds = train(writer, prm, options, program, rounds=size.rounds, responses=RESPONSES, rate=RATE, rng=rng)
    for last in rounds:
        at = last.written
        earned = np.where(at.there, pays[at.derived, at.error, at.move], 0.0).sum(1).mean()
        watch.add(last, last.writer.accuracy, float(earned))
        gone = gone + 1 if watch.right[-1] < GONE else 0
        if gone >= PATIENCE:
            break
    assert last is not None
    fresh = write(last.writer, FRESH, rng)
    best, fell = int(np.argmax(watch.right)), watch.fell
    return {
        "right": watch.right[-1],
        "best": watch.right[best],
        "fell": float(fell is not None),
        "fall": np.nan if fell is None else float(fell),
        "earned": float(np.mean(watch.earned[-20:]) - np.mean(watch.earned[max(best - 10, 0) : best + 10])),
        "neutral": float((fresh.rating[fresh.there] == 0).mean()),
        "restated": float((KIND[fresh.move] == RESTATE)[fresh.there].mean()),
        "cut_off": float(1 - fresh.finished.mean()),
        "rang": float(watch.rang is not None),
        "alarm": np.nan if watch.rang is None else float(watch.rang),
        "lead": watch.lead,
        "warned": np.nan if fell is None else float(watch.lead >= SOON),
        "clean": float(fell is None and np.mean(watch.neutral[-20:]) - np.mean(watch.neutral[:5]) < GAMED),
        "f1": f1_on(prm, write(writer, FRESH, _random(seed, steps, "fresh"))),
        "f1_end": f1_on(prm, fresh),
    }


def _tables(found: Found) -> list[Table]:
    """Over all arms and seeds: how many falls the monitors told of, and how many clean runs they rang in."""
    runs = [figures for by_seed in found.values() for figures in by_seed.values()]
    falls = [f for f in runs if f["fell"]]
    clean = [f for f in runs if f["clean"]]
    rows = [
        _counted("falls, an alarm came first", [np.isfinite(f["lead"]) for f in falls]),
        _counted(f"falls, an alarm came at least {SOON} rounds first", [f["warned"] > 0 for f in falls]),
        _counted("clean runs, an alarm rang", [f["rang"] > 0 for f in clean]),
    ]
    return [("monitors, all arms and seeds", ["", "of", "share [95 % Wilson interval over runs]"], rows)]


def _counted(name: str, which: list[bool]) -> list[str]:
    if not which:
        return [name, "0", "–"]
    low, high = wilson(sum(which), len(which), z_of(0.95))
    share = 100 * sum(which) / len(which)
    return [name, str(len(which)), f"{share:.1f} [{100 * low:.1f}, {100 * high:.1f}] %"]


def plan(quick: bool) -> Plan:
    size = QUICK if quick else Size()
    arms = [Arm(row(*names), str(steps)) for *names, steps in cells_of(size)]
    return Plan(arms, exact=functools.partial(measure, size=size))


STUDY = Study(
    name="padding",
    title="Padding",
    claim="Summed step rewards invite repetition of true, useless steps; neutral labels credited by the step do not.",
    measures={
        "right": Measure("right answers at the end", "share"),
        "best": Measure("right answers in the best round", "share"),
        "fell": Measure("seeds whose right answers fell five points below their best, lastingly", "share"),
        "fall": Measure("round of the fall", digits=0),
        "earned": Measure("learned reward of a response at the end, minus around the best round"),
        "neutral": Measure("neutral steps at the end", "share"),
        "restated": Measure("restatements at the end, whether or not an error stands", "share"),
        "cut_off": Measure("responses cut off at the end", "share"),
        "rang": Measure("seeds in which a monitor rang", "share"),
        "alarm": Measure("round of the first alarm", digits=0),
        "lead": Measure("rounds by which it came before the fall", digits=0),
        "warned": Measure(f"falls that a monitor told of at least {SOON} rounds before", "share"),
        "clean": Measure("seeds without a fall or a rise of neutral steps by ten points", "share"),
        "f1": Measure("macro-F1 of the reward model on steps of the policy before training"),
        "f1_end": Measure("the same after training"),
    },
    plan=plan,
    x_name="K",
    compared=[(row("sum", n, q), row("step", n, q)) for n in NEUTRAL for q in QUALITIES],
    drawn=("right", "neutral"),
    lines=[row(h, n, "F1 .98") for h in HORIZONS for n in NEUTRAL],
    tables=_tables,
)

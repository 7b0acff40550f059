"""The study `blame`: which share of tokens is pushed the wrong way because of what came later, by credit rule.

A right step is better than the policy's average, whatever follows; a false one is worse, even where it is repaired. The
writer of the study `credit` responds early in training, and each rule credits the same responses by the credit program
of training. Where a rule's scores are exact, only the rule is to blame.
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from stepjax.learners.ppo import credited, make_streams
from stepjax.studies.credit_rows import EXACT, scored_rows, width_of
from stepjax.studies.credit_rules import Rule, make_rule
from stepjax.studies.credit_writer import Writer, make_writer, write
from stepjax.studies.pushed import Pushed
from stepjax.studies.study import Arm, ByArm, Figures, Measure, Plan, Study

RULES = (
    "exact",
    "step",
    "mona",
    "step_outcome",
    "progress",
    "progress, raw",
    "vineppo",
    "vineppo, raw",
    "outcome_gae",
    "outcome_gae_1",
    "turn_ppo",
    "grpo",
    "rloo",
    "process_sum",
    "grpo_process",
    "papo",
    "gigpo",
    "pure",
    "clip_delta",
)
RAW = ", raw"
"""What follows the name of a rule whose advantages are not whitened."""

JUDGES = ("exact scores", "scores that err")


@dataclasses.dataclass(frozen=True)
class Size:
    """K; responses of each K in groups of eight, in whole batches; rules."""

    steps: tuple[int, ...] = (2, 4, 8, 16)
    responses: int = 4096
    batch: int = 512
    rules: Sequence[str] = RULES


QUICK = Size(steps=(2, 4), responses=512, rules=("exact", "step", "grpo", "process_sum"))


def row(rule: str, judge: str) -> str:
    return f"{rule}, {judge}"


def measure(seed: int, known: ByArm, keep: Callable[[ByArm], None], size: Size) -> ByArm:
    """Figures of all arms of a seed; those that are `known` are not measured again."""
    rules = [_rule(name) for name in size.rules]
    programs = {rule.name: _program(rule) for rule in rules}
    found = dict(known)
    for steps in size.steps:
        writer = make_writer(steps, "early", _random(seed, steps, "policy"))
        for rule in rules:
            for judge in JUDGES:
                if (row(rule.name, judge), str(steps)) not in found:
                    figures = _measure(rule, judge, programs[rule.name], writer, steps, seed, size)
                    found[row(rule.name, judge), str(steps)] = figures
                    keep(found)
    return found


def _rule(name: str) -> Rule:
    rule = make_rule(name.removesuffix(RAW), samples=8)
    if not name.endswith(RAW):
        return rule
    streams = {key: dataclasses.replace(o, whiten=False) for key, o in rule.options.streams.items()}
    return Rule(name, dataclasses.replace(rule.options, streams=streams, whiten=False), rule.judges)


def _random(seed: int, steps: int, what: str) -> np.random.Generator:
    return np.random.default_rng([seed, steps, zlib.crc32(what.encode())])


def _program(rule: Rule) -> Any:
    def weights(rows: Any, host: Any) -> Any:
        return credited(rule.options, make_streams(rule.options.streams), rows, host)[0].policy_weight

    return jax.jit(weights)


def _measure(rule: Rule, judge: str, program: Any, writer: Writer, steps: int, seed: int, size: Size) -> Figures:
    judges = dataclasses.replace(EXACT, value_prm=rule.judges.value_prm) if judge == JUDGES[0] else rule.judges
    drawn, judged, pushed = _random(seed, steps, "responses"), _random(seed, steps, rule.name), Pushed()
    for _ in range(size.responses // size.batch):
        written = write(writer, size.batch, drawn)
        rows, host, layout = scored_rows(rule.options, writer, written, width_of(steps), judges, judged)
        pushed.add(written, layout, np.asarray(program(rows, host)))
    return pushed.figures()


def plan(quick: bool) -> Plan:
    size = QUICK if quick else Size()
    arms = [Arm(row(rule, judge), str(steps)) for rule in size.rules for judge in JUDGES for steps in size.steps]
    return Plan(arms, exact=functools.partial(measure, size=size))


STUDY = Study(
    name="blame",
    title="Blame for what came later",
    claim="Ignoring later rewards neither punishes right steps for later errors nor excuses wrong ones.",
    measures={
        "blamed": Measure("right steps before a later error: tokens pushed down", "share"),
        "clean": Measure("right steps without a later error: tokens pushed down", "share"),
        "excused": Measure("false steps that are repaired later: tokens pushed up", "share"),
        "kept": Measure("false steps that are never repaired: tokens pushed up", "share"),
        "no_credit": Measure("of the first and third kind: tokens that are not pushed", "share"),
    },
    plan=plan,
    x_name="K",
    compared=[(row(name, JUDGES[0]), row("step", JUDGES[0])) for name in ("grpo", "outcome_gae", "process_sum")],
    drawn=("blamed", "excused"),
    lines=tuple(row(name, JUDGES[0]) for name in ("step", "grpo", "outcome_gae", "process_sum", "vineppo", "progress")),
)

"""The study `credit`: advantages as published rules estimate them, against the exact advantage of every step.

A policy whose values are known writes responses to problems of K = 2 … 32 derivations, early and late in training. Each
rule credits the same responses by the credit program of training. Work that is done is not done again.
"""

import dataclasses
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from stepjax.console.progress import progress
from stepjax.errors import UserError
from stepjax.learners.ppo import credited, make_streams
from stepjax.studies.credit_measures import Sums
from stepjax.studies.credit_rows import scored_rows, width_of
from stepjax.studies.credit_rules import RULES, Rule, make_rule
from stepjax.studies.credit_writer import PHASES, Written, make_writer, write
from stepjax.workdir.folder import open_workdir
from stepjax.workdir.json_file import plain, read_json, write_json

FILE = "credit.json"


@dataclasses.dataclass(frozen=True)
class Size:
    """How much is measured: K, problems of 8 responses a batch, steps to judge for each K (in whole batches)."""

    steps: tuple[int, ...] = (2, 4, 8, 16, 32)
    problems: int = 64
    judged: int = 20_000
    samples: int = 8


QUICK = Size(steps=(2, 4), problems=16, judged=1_000)
Found = dict[str, dict[str, dict[str, float]]]
"""Figures by "K/phase/seed", rule, measure."""


def run_study(workdir: Path, seeds: Sequence[int], size: Size, rules: Sequence[str] = RULES) -> Found:
    """Measures what `workdir` lacks of these seeds and rules, and returns their figures.

    Raises:
      UserError: the work directory cannot be used, holds something else, a study of another size or damaged figures.
    """
    made = [make_rule(name, size.samples) for name in rules]
    programs = {rule.name: _program(rule) for rule in made}
    wanted = [(steps, phase, seed) for steps in size.steps for phase in PHASES for seed in seeds]
    with open_workdir(workdir, {"study": "credit", **plain(dataclasses.asdict(size))}) as folder:
        found: Found = read_json(folder / FILE)
        if not found and (folder / FILE).exists():
            raise UserError(f"{folder / FILE} is damaged: remove it to measure again, or use another --workdir")
        missing = {at: [r for r in made if r.name not in found.get(_key(*at), {})] for at in wanted}
        todo = [at for at in wanted if missing[at]]
        with progress("Study", len(wanted), "policies", len(wanted) - len(todo)) as bar:
            for at in todo:
                found.setdefault(_key(*at), {}).update(_measure(missing[at], programs, *at, size))
                write_json(folder / FILE, plain(found))
                bar.advance()
    return {_key(*at): {name: found[_key(*at)][name] for name in rules} for at in wanted}


def _key(steps: int, phase: str, seed: int) -> str:
    return f"{steps}/{phase}/{seed}"


def _program(rule: Rule) -> Callable[..., Any]:
    """The rule's credit program: weights of the tokens alone leave it."""

    def weights(rows, host):
        return credited(rule.options, make_streams(rule.options.streams), rows, host)[0].policy_weight

    return jax.jit(weights)


def _measure(
    rules: Sequence[Rule], programs: dict[str, Any], steps: int, phase: str, seed: int, size: Size
) -> dict[str, dict[str, float]]:
    def stream_of(what: str) -> np.random.Generator:
        return np.random.default_rng([seed, steps, zlib.crc32(phase.encode()), zlib.crc32(what.encode())])

    writer = make_writer(steps, phase, stream_of("policy"))
    drawn, sums = stream_of("responses"), {rule.name: Sums() for rule in rules}
    judges = {rule.name: stream_of(rule.name) for rule in rules}
    judged = 0
    while judged < size.judged:
        written = write(writer, size.problems * size.samples, drawn)
        judged += int((written.move >= 0).sum())
        for rule in rules:
            rows, host, layout = scored_rows(
                rule.options, writer, written, width_of(steps), rule.judges, judges[rule.name]
            )
            weight = np.asarray(programs[rule.name](rows, host))
            sums[rule.name].add(writer, written, _at_moves(weight, layout.last, written))
    return {name: of.figures(writer) for name, of in sums.items()}


def _at_moves(weight: np.ndarray, last: np.ndarray, written: Written) -> np.ndarray:
    """Â of each step: the weight of the token that chooses its move."""
    return np.where(written.move >= 0, np.take_along_axis(weight, np.maximum(last, 0), axis=1), 0.0)

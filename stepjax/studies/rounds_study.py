"""The study `rounds`: how many rounds of training credit over a step, a response, or of outcomes takes to 90 %.

The policy of the study `variance` in RegisterChain's world is trained by its own gradient, with Adam and a critic that
is always exact. The chance of a right answer is computed, not sampled.
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from stepjax.config import PPOOptions
from stepjax.studies.credit_rows import EXACT, scored_rows, width_of
from stepjax.studies.credit_writer import Writer, make_writer, write, writer_of
from stepjax.studies.crediting import crediting
from stepjax.studies.gradient_sums import GradientSums
from stepjax.studies.study import Arm, ByArm, Figures, Measure, Plan, Study
from stepjax.studies.variance_study import TURN, options_of, stream_name

CREDITS = {
    "step": ("step", 1.0),
    "response, λ = 1": ("response", 1.0),
    "response, λ = 0.95": ("response", 0.95),
    "outcome, λ = 1": ("outcome", 1.0),
    "outcome, λ = 0.95": ("outcome", 0.95),
}
FEW, MANY = 8, 128
"""Responses a round: fewer and more than those in whose mean gradient signal and noise are as large."""

GOAL = 0.9
RATE, MEMORY, SQUARE_MEMORY = 0.05, 0.9, 0.99
"""Adam's learning rate and decays."""


@dataclasses.dataclass(frozen=True)
class Size:
    """K; numbers of responses a round; the most rounds; credits."""

    steps: tuple[int, ...] = (2, 8, 16)
    responses: tuple[int, ...] = (MANY, FEW)
    rounds: int = 200
    credits: tuple[str, ...] = tuple(CREDITS)


QUICK = Size(steps=(2,), responses=(MANY,), rounds=40, credits=("step", "outcome, λ = 1"))


def row(credit: str, responses: int) -> str:
    """The name of an arm's row."""
    return f"{credit}, {responses} responses"


def measure(seed: int, known: ByArm, keep: Callable[[ByArm], None], size: Size) -> ByArm:
    """Figures of all arms of a seed; those that are `known` are not measured again."""
    found = dict(known)
    for steps in size.steps:
        for responses in size.responses:
            for credit in size.credits:
                at = row(credit, responses), str(steps)
                if at not in found:
                    found[at] = _train(credit, responses, steps, seed, size)
                    keep(found)
    return found


def _options(name: str) -> PPOOptions:
    options, stream = options_of(), stream_name(*CREDITS[name])
    return dataclasses.replace(options, streams={stream: options.streams[stream]})


def _train(name: str, responses: int, steps: int, seed: int, size: Size) -> Figures:
    def random(what: str) -> np.random.Generator:
        return np.random.default_rng([seed, steps, zlib.crc32(what.encode())])

    options = _options(name)
    program = crediting(options, "advantages")
    writer, rng = make_writer(steps, "early", random("policy")), random(f"{name} {responses}")
    allowed = writer.moves > 0
    logits = np.log(np.where(allowed, writer.moves, 1.0))
    mean, square, rounds = np.zeros(logits.shape), np.zeros(logits.shape), 0
    for t in range(1, size.rounds + 1):
        if _right(writer) >= GOAL:
            break
        gradient = _gradient(options, program, writer, steps, responses, rng)
        mean = MEMORY * mean + (1 - MEMORY) * gradient
        square = SQUARE_MEMORY * square + (1 - SQUARE_MEMORY) * gradient**2
        root = np.sqrt(square / (1 - SQUARE_MEMORY**t)) + 1e-8
        logits = logits + RATE * mean / (1 - MEMORY**t) / root
        moves = np.where(allowed, np.exp(logits), 0.0)
        writer = writer_of(moves / moves.sum(-1, keepdims=True), writer.reference, rng)
        rounds = t
    reached = _right(writer) >= GOAL
    return {"rounds": float(rounds) if reached else np.nan, "reached": float(reached), "right": _right(writer)}


def _right(writer: Writer) -> float:
    return float(writer.value[0, 0, 0])


def _gradient(
    options: PPOOptions, program: Any, writer: Writer, steps: int, responses: int, rng: np.random.Generator
) -> np.ndarray:
    written = write(writer, responses, rng)
    rows, host, layout = scored_rows(options, writer, written, width_of(steps), EXACT, rng, turn=TURN)
    advantages = np.asarray(program(rows, host))[:, 0]
    chosen = written.move >= 0
    sums = GradientSums(writer)
    sums.add(written, np.where(chosen, np.take_along_axis(advantages, np.maximum(layout.last, 0), axis=1), 0.0), chosen)
    return sums.mean.reshape(writer.moves.shape)


def plan(quick: bool) -> Plan:
    size = QUICK if quick else Size()
    rows = [row(credit, responses) for responses in size.responses for credit in size.credits]
    arms = [Arm(name, str(steps)) for name in rows for steps in size.steps]
    return Plan(arms, exact=functools.partial(measure, size=size))


STUDY = Study(
    name="rounds",
    title="What lower variance is worth",
    claim="Credit over a step needs fewer rounds.",
    measures={
        "rounds": Measure("rounds to 90 % right answers, of the seeds that reached them", digits=1),
        "reached": Measure("seeds that reached them", "share"),
        "right": Measure("right answers at the end", "share"),
    },
    plan=plan,
    x_name="K",
    compared=[(row(name, n), row("step", n)) for n in (MANY, FEW) for name in CREDITS if name != "step"],
    drawn=("rounds",),
    lines=[row(name, FEW) for name in CREDITS],
)

"""The study `variance`: of advantages and of the policy gradient, by horizon, λ, critic and number of steps.

A policy whose values are known writes responses. All arms credit the same ones, by the credit program of training.
Where steps earn independently the variance over the response is, by theory, (K + 1) / 2 times that over a step.
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from stepjax.config import PPOOptions
from stepjax.options import from_dict, recipe, stream
from stepjax.studies.credit_rows import Judges, scored_rows, width_of
from stepjax.studies.credit_writer import ANSWER, Writer, make_independent_writer, make_writer, write
from stepjax.studies.crediting import crediting
from stepjax.studies.gradient_sums import GradientSums
from stepjax.studies.study import Arm, ByArm, Measure, Plan, Study

TURN = 4
"""Derivations of a turn."""

WORLDS = ("independent", "RegisterChain")
CRITICS = {"exact": 0.0, "learned": 0.1}
"""Standard deviation of a critic's error, in units of the rewards' range."""

LAMBDAS = (1.0, 0.95)
UNITS = ("ratio", "gradient_ratio")
"""Figures that say something only where two horizons credit the same rewards."""

HORIZONS = ("step", "turn", "response", "outcome")


@dataclasses.dataclass(frozen=True)
class Size:
    """K; responses of each K, in whole batches."""

    steps: tuple[int, ...] = (2, 4, 8, 16, 32)
    responses: int = 8192
    batch: int = 512


QUICK = Size(steps=(2, 4), responses=1024)


def row(world: str, horizon: str, lam: float, critic: str) -> str:
    """The name of an arm's row."""
    return f"{world}, {horizon}, λ = {lam:g}, {critic} critic"


def options_of(samples: int = 8) -> PPOOptions:
    """A stream for each horizon and λ: step rewards by the exact ratings, and the outcome over the response."""
    config = recipe()
    config.ppo.streams = {
        stream_name(horizon, lam): stream(
            signal="outcome" if horizon == "outcome" else "verifier",
            horizon="response" if horizon == "outcome" else horizon,
            lam=lam,
            bad=0.0 if horizon == "outcome" else -1.0,
            whiten=False,
        )
        for horizon in HORIZONS
        for lam in LAMBDAS
    }
    return dataclasses.replace(from_dict(config).ppo, samples=samples)


def stream_name(horizon: str, lam: float) -> str:
    """The stream of a horizon and λ."""
    return f"{horizon}_{100 * lam:.0f}"


def law(steps: int, lam: float, tokens: int = 6) -> float:
    """Variance of advantages over the response in units of that over a step; `tokens` a step."""
    return float(np.mean([sum(lam ** (2 * tokens * j) for j in range(k)) for k in range(1, steps + 1)]))


def measure(seed: int, known: ByArm, keep: Callable[[ByArm], None], size: Size) -> ByArm:
    """Figures of all arms of a seed; those that are `known` are not measured again."""
    options = options_of()
    program = crediting(options, "advantages")
    found = dict(known)
    for steps in size.steps:
        for world in WORLDS:
            for critic, noise in CRITICS.items():
                arms = {(horizon, lam): row(world, horizon, lam, critic) for horizon in HORIZONS for lam in LAMBDAS}
                if all((name, str(steps)) in found for name in arms.values()):
                    continue
                sums = _sums(options, program, world, noise, steps, seed, size)
                for (horizon, lam), of in sums.items():
                    figures = of.figures(sums["step", lam])
                    if horizon == "response":
                        figures["law"] = figures["ratio"] / law(steps, lam)
                    for name in UNITS if horizon in ("step", "outcome") else ():
                        del figures[name]
                    found[arms[horizon, lam], str(steps)] = figures
                keep(found)
    return found


def _sums(
    options: PPOOptions, program: Any, world: str, noise: float, steps: int, seed: int, size: Size
) -> dict[tuple[str, float], GradientSums]:
    def stream_of(what: str) -> np.random.Generator:
        return np.random.default_rng([seed, steps, zlib.crc32(world.encode()), zlib.crc32(what.encode())])

    independent = world == "independent"
    writer: Writer = (
        make_independent_writer(steps, stream_of("policy"))
        if independent
        else make_writer(steps, "early", stream_of("policy"))
    )
    judges = Judges(prm_errors=0.0, value_noise=0.0, critic_noise=noise, local=independent)
    drawn, judged = stream_of("responses"), stream_of("judges")  # both critics see the same responses
    sums = {(horizon, lam): GradientSums(writer) for horizon in HORIZONS for lam in LAMBDAS}
    names = list(options.streams)
    for _ in range(size.responses // size.batch):
        written = write(writer, size.batch, drawn)
        rows, host, layout = scored_rows(options, writer, written, width_of(steps), judges, judged, turn=TURN)
        advantages = np.asarray(program(rows, host))
        # An answer has no rival where errors are independent: the law is about derivations.
        chosen = written.move >= 0 if not independent else (written.move >= 0) & (written.move != ANSWER)
        for (horizon, lam), of in sums.items():
            of_stream = advantages[:, names.index(stream_name(horizon, lam))]
            at = np.take_along_axis(of_stream, np.maximum(layout.last, 0), axis=1)
            of.add(written, np.where(chosen, at, 0.0), chosen)
    return sums


def plan(quick: bool) -> Plan:
    size = QUICK if quick else Size()
    arms = [
        Arm(row(world, horizon, lam, critic), str(steps))
        for world in WORLDS
        for critic in CRITICS
        for lam in LAMBDAS
        for horizon in HORIZONS
        for steps in size.steps
    ]
    return Plan(arms, exact=functools.partial(measure, size=size))


STUDY = Study(
    name="variance",
    title="Variance of credit",
    claim="Advantages over a step have lower variance than over the response.",
    measures={
        "ratio": Measure("variance of advantages, in units of credit over a step", log=True),
        "law": Measure("the same divided by the law of independent steps"),
        "gradient_ratio": Measure("variance of the policy gradient, in units of credit over a step", log=True),
        "noise_ratio": Measure(
            "that variance over the squared mean gradient, in units of credit over a step", log=True
        ),
        "responses": Measure("responses in which the policy gradient is as large as its noise", digits=1),
        "cosine": Measure("cosine of the mean gradient with the exact gradient of a right answer's chance"),
    },
    plan=plan,
    x_name="K",
    drawn=("ratio", "gradient_ratio", "noise_ratio", "cosine"),
    lines=tuple(row(world, horizon, 1.0, "exact") for world in WORLDS for horizon in ("turn", "response", "outcome")),
)

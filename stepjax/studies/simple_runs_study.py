"""The study `simple_runs`: `simple` with training runs instead of an exact world, in tokens and seconds, too.

For each K (needed derivations) and seed, one SFT policy and one process reward model serve all arms.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stepjax.report.read import read_run
from stepjax.studies.quick_runs import QUICK_PPO, QUICK_RUN
from stepjax.studies.study import Arm, Figures, Measure, Plan, Study

LENGTHS = (2, 4, 8)
CREDITS = {
    "step": ("step", ()),
    "response": ("sum", ()),
    "outcome": ("outcome", ()),
    "grpo": ("rloo", ("--config.ppo.streams.outcome.estimator=group",)),
    "rloo": ("rloo", ()),
}
"""The arm of configs/credit_arms.py and further options: step-level PPO, scores summed over the response, outcomes with
a critic, and outcomes against the group."""

GOAL = 0.9
WINDOW = 5
"""Rounds of which the mean accuracy counts."""

ROUNDS = 100


def world(steps: int) -> tuple[str, ...]:
    """Options of a world of K = `steps` needed derivations, and of rows that hold it."""
    return (
        f"--config.task.register_chain.operations=({steps},{steps})",
        f"--config.sft.row_tokens={96 if steps <= 4 else 192}",
        f"--config.prm.row_tokens={96 if steps <= 4 else 192}",
        f"--config.ppo.prompt_tokens={17 + 8 * steps}",
        f"--config.ppo.max_new_tokens={24 + 12 * steps}",
    )


def read(workdir: Path) -> Figures:
    """Rounds, sampled tokens and seconds until the mean accuracy of `WINDOW` rounds reaches the goal, or NaN."""
    run = read_run(workdir)
    rounds = [record for record in run.metrics if record["stage"] == "ppo" and "true/accuracy" in record]
    options = run.config["ppo"]
    tokens = [options["prompts"] * options["samples"] * record["length/tokens"] for record in rounds]
    seconds = [sum(x for name, x in record.items() if name.startswith("seconds/")) for record in rounds]
    reached = first_reached([record["true/accuracy"] for record in rounds])
    rows = run.evaluation.get("rows", {})
    figures = {f"accuracy {stage}": float(rows[stage]["accuracy"]) for stage in ("sft", "ppo") if stage in rows}
    figures["reached"] = float(reached is not None)
    for name, spent in (("rounds", np.ones(len(rounds))), ("tokens", tokens), ("seconds", seconds)):
        figures[name] = np.nan if reached is None else float(np.sum(spent[:reached]))
    return figures


def first_reached(accuracy: Sequence[float]) -> int | None:
    """How many rounds there were when the mean accuracy of the last `WINDOW` of them first reached the goal."""
    for end in range(WINDOW, len(accuracy) + 1):
        if np.mean(accuracy[end - WINDOW : end]) >= GOAL:
            return end
    return None


def plan(quick: bool) -> Plan:
    lengths, reduced = (LENGTHS[:1], QUICK_RUN) if quick else (LENGTHS, ())
    credits = ("step", "rloo") if quick else tuple(CREDITS)
    rounds = QUICK_PPO if quick else (f"--config.ppo.iterations={ROUNDS}",)
    base = ("--config=quickstart", '--config.stages=("sft","prm")')
    bases = {f"base-K{steps}": (*base, *world(steps), *reduced) for steps in lengths}
    arms = []
    for steps in lengths:
        for name in credits:
            arm, more = CREDITS[name]
            options = (f"--config=credit_arms:{arm}", *more, *world(steps), *reduced, *rounds)
            arms.append(Arm(name, str(steps), options, f"base-K{steps}"))
    return Plan(arms, bases, read=read)


STUDY = Study(
    name="simple_runs",
    title="The simple method, in training runs",
    claim="Step-level PPO is the simple method that works.",
    measures={
        "accuracy sft": Measure("right answers before PPO", "share"),
        "accuracy ppo": Measure("right answers after PPO", "share"),
        "reached": Measure("runs that reached 90 %", "share"),
        "rounds": Measure("rounds to 90 %, of those that reached it", digits=1),
        "tokens": Measure("sampled tokens to 90 %, of those that reached it", digits=0),
        "seconds": Measure("seconds to 90 %, of those that reached it", digits=0),
    },
    plan=plan,
    x_name="K",
    compared=[(name, "step") for name in CREDITS if name != "step"],
    drawn=("rounds", "accuracy ppo"),
)

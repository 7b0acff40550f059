"""The study `seeds`: how much the abilities of equally good policies differ, by type of problem.

Quickstarts that differ in their seed alone answer the same held-out problems. The type of a problem is its operators
and whether a value on the way wraps around. Of the variance between seeds the part that sampling alone would make is
taken off.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from stepjax.report.read import read_run
from stepjax.studies.quick_runs import QUICK_PPO, QUICK_RUN
from stepjax.studies.study import Arm, Figures, Found, Measure, Plan, Study, Table
from stepjax.studies.study_tables import of_seeds
from stepjax.tasks.register_chain.program import apply, parse_program, value_of

OPERATORS = ("++", "+-", "-+", "--")
TYPES = tuple(f"{operators}, {how}" for operators in OPERATORS for how in ("plain", "wraps"))
ALL = "all"
PROBLEMS = 2000
"""Held-out problems: as many as there are."""


def type_of(problem: str, modulus: int) -> str:
    """`+-, wraps`: the operators of the two derivations that the query needs, and whether a result of one had to be
    brought back into [0, modulus)."""
    program = parse_program(problem, modulus)
    derived = program.derived(needed=True)
    wraps = False
    for statement in derived:
        left, right = (value_of(x, program.values) for x in (statement.left, statement.right))
        raw = left + right if statement.operator == "+" else left - right
        wraps |= raw != apply(statement.operator, left, right, modulus)
    return f"{''.join(s.operator for s in derived)}, {'wraps' if wraps else 'plain'}"


def read(workdir: Path) -> Figures:
    """Accuracy of the policy after PPO, on all problems and by type; how many there are of each."""
    run = read_run(workdir)
    modulus = run.config["task"]["register_chain"]["modulus"]
    by_type: dict[str, list[bool]] = {ALL: []}
    for response in run.responses.get("ppo", ()):
        for name in (ALL, type_of(response["problem"], modulus)):
            by_type.setdefault(name, []).append(bool(response["correct"]))
    figures: Figures = {}
    for name, correct in by_type.items():
        if correct:
            figures |= {name: float(np.mean(correct)), f"count of {name}": float(len(correct))}
    return figures


def spread(accuracy: Float[np.ndarray, " S"], counts: Float[np.ndarray, " S"]) -> tuple[float, float]:
    """Standard deviation between seeds, and what is left of it without the noise of sampling `counts` responses each.

    The noise is at most that of equally hard problems, p(1 − p)/n.
    """
    between = float(accuracy.var(ddof=1))
    noise = float(np.mean(accuracy * (1 - accuracy) / counts))
    return float(np.sqrt(between)), float(np.sqrt(max(between - noise, 0.0)))


def _tables(found: Found) -> list[Table]:
    """Spread between seeds by type, with bootstrap intervals over seeds."""
    rows = []
    for arm in found:
        for name in (ALL, *TYPES):
            p, n = of_seeds(found, arm, name), of_seeds(found, arm, f"count of {name}")
            if len(p) < 3:
                continue
            accuracy, counts = np.array(list(p.values())), np.array(list(n.values()))
            rng = np.random.default_rng(0)
            drawn = rng.integers(0, len(accuracy), (2000, len(accuracy)))
            low, high = np.percentile([spread(accuracy[i], counts[i])[1] for i in drawn], [2.5, 97.5])
            between, beyond = spread(accuracy, counts)
            shown = [f"{100 * x:.1f}" for x in (accuracy.mean(), accuracy.min(), accuracy.max(), between)]
            rows.append(
                [name, f"{counts.mean():.0f}", *shown, f"{100 * beyond:.1f} [{100 * low:.1f}, {100 * high:.1f}]"]
            )
    columns = ["type", "problems", "mean", "lowest", "highest", "deviation", "beyond sampling"]
    return [("accuracy by type over seeds, %", columns, rows)] if rows else []


def plan(quick: bool) -> Plan:
    options = (*QUICK_RUN, *QUICK_PPO) if quick else (f"--config.eval.problems={PROBLEMS}",)
    return Plan([Arm("quickstart", options=("--config=quickstart", *options))], read=read)


STUDY = Study(
    name="seeds",
    title="Abilities of equally good policies",
    claim="Runs that differ in their seed alone differ in what they can do.",
    measures={name: Measure(name, "share") for name in (ALL, *TYPES)},
    plan=plan,
    tables=_tables,
)

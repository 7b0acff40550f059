"""The study `correction_runs`: `correction` with training runs instead of an exact world.

Demonstrations hold wrong tries that are taken back (retry data, the tries masked) in a share of the derivations. From
each SFT policy PPO goes on with step ratings that pay repairs, with some that do not, and with outcomes alone; outcomes
also with shorter and longer limits.
"""

from collections.abc import Mapping
from pathlib import Path

from stepjax.report.read import read_run
from stepjax.studies.quick_runs import QUICK_PPO, QUICK_RUN
from stepjax.studies.study import Arm, Figures, Measure, Plan, Study

SHARES = (0.0, 0.1, 0.3, 0.5)
ROUNDS = 60
LIMIT, SHORT, LONG = 128, 48, 256
"""Tokens of a response, and shorter and longer limits."""

_STEP = ('--config.stages=("prm","ppo")', '--config.from_base=("sft",)')
CREDITS: Mapping[str, tuple[str, int, tuple[str, ...]]] = {
    "step, repairs paid": ("", LIMIT, _STEP),
    "step, repairs unpaid": ("", LIMIT, (*_STEP, "--config.task.register_chain.repair_rating=neutral")),
    "outcome": (":outcome", LIMIT, ()),
    f"outcome, {SHORT} tokens": (":outcome", SHORT, ()),
    f"outcome, {LONG} tokens": (":outcome", LONG, ()),
}
"""The arm of configs/repair.py, the limit, further options."""

FIGURES = ("accuracy", "recovery", "false_repairs", "tries", "tokens", "truncated")


def world(share: float, limit: int) -> tuple[str, ...]:
    """Options of the task and of rows that hold its responses."""
    return (
        f"--config.task.register_chain.retry={share}",
        "--config.task.register_chain.retry_masked=True",
        f"--config.ppo.max_new_tokens={limit}",
        f"--config.prm.row_tokens={40 + limit}",
    )


def column(share: float) -> str:
    return f"{round(100 * share)}"


def read(workdir: Path) -> Figures:
    """Figures on held-out problems after SFT and after PPO."""
    rows = read_run(workdir).evaluation.get("rows", {})
    found: Figures = {}
    for stage in ("sft", "ppo"):
        for name in FIGURES:
            value = rows.get(stage, {}).get(name)
            if isinstance(value, int | float):
                found[f"{name} {stage}"] = float(value)
    return found


def plan(quick: bool) -> Plan:
    shares, reduced = ((0.3,), QUICK_RUN) if quick else (SHARES, ())
    rounds = QUICK_PPO if quick else (f"--config.ppo.iterations={ROUNDS}",)
    names = ("step, repairs unpaid",) if quick else tuple(CREDITS)
    base_limit = SHORT if quick else LIMIT
    bases, arms = {}, []
    for share in shares:
        base = f"sft-{column(share)}"
        bases[base] = (f"--config=repair:{share}", '--config.stages=("sft",)', *world(share, base_limit), *reduced)
        for name in names:
            arm, limit, more = CREDITS[name]
            limit = min(limit, base_limit) if quick else limit
            options = (f"--config=repair:{share}{arm}", *more, *world(share, limit), *reduced, *rounds)
            arms.append(Arm(name, column(share), options, base))
    return Plan(arms, bases, read=read)


STUDY = Study(
    name="correction_runs",
    title="Self-correction, in training runs",
    claim="Retry data teaches repair; step ratings that pay it keep it; with outcomes it appears by itself.",
    measures={
        "accuracy sft": Measure("right answers after SFT", "share"),
        "accuracy ppo": Measure("right answers after PPO", "share"),
        "recovery sft": Measure("false registers put right after SFT", "share"),
        "recovery ppo": Measure("the same after PPO", "share"),
        "false_repairs sft": Measure("right registers repaired or taken back after SFT", "share"),
        "false_repairs ppo": Measure("the same after PPO", "share"),
        "tries ppo": Measure("statements repaired or taken back, a response, after PPO"),
        "tokens sft": Measure("tokens of a response after SFT", digits=1),
        "tokens ppo": Measure("the same after PPO", digits=1),
        "truncated ppo": Measure("responses cut off after PPO", "share"),
    },
    plan=plan,
    x_name="retry, %",
    compared=[
        ("step, repairs unpaid", "step, repairs paid"),
        ("outcome", "step, repairs paid"),
        (f"outcome, {LONG} tokens", f"outcome, {SHORT} tokens"),
    ],
    drawn=("accuracy ppo", "recovery ppo", "false_repairs ppo"),
)

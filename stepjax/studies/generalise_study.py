"""The study `generalise`: which process reward model is of use in a world that it was not trained in?

A model of steps (is this step right by what was stated?), one of prefixes (are all steps so far?) and one of values
(will the answer be right?) learn in one world, from the same responses. Each then scores, selects and rewards a policy
of another world, which learned there; only the reward model is transferred. A world's policy before PPO is one for all
seeds. All three pay alike: a step earns P(good) − P(bad) and half of P(neutral) less, credited to the step alone.

The worlds have one tokenizer and step format: the quickstart's, longer chains, one operator more, register names that
were never read, and Countdown (its first moves are not given by the prompt; its ratings know no locally right step on a
false value). The reward models' own world is the control.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stepjax.config.countdown import CountdownConfig
from stepjax.evaluation.responses import FOLDER
from stepjax.measures.over_seeds import paired, summary
from stepjax.report.charts import Chart, Line
from stepjax.report.read import read_lines, read_run
from stepjax.report.series import Points
from stepjax.studies.quick_runs import QUICK_PPO, QUICK_RUN
from stepjax.studies.study import Arm, Figures, Found, Measure, Plan, Study, Table
from stepjax.studies.study_tables import of_seeds, shown, summed_up
from stepjax.studies.transfer_measures import read_solutions, score_figures, selection_figures
from stepjax.tasks.countdown.puzzle import parse_puzzle, rules_of
from stepjax.tasks.countdown.solver import chance, hand_of
from stepjax.workdir.json_file import MEASURES

KINDS: Mapping[str, str] = {"step": "min", "prefix": "min", "value": "last"}
"""`prm.target`, and the score by which such a model selects a response: that of its worst step or of its last one."""


@dataclass(frozen=True)
class World:
    """A world's problems: options below `config.task`, the longest prompt and response in tokens; updates of SFT."""

    options: tuple[str, ...] = ()
    prompt: int = 33
    response: int = 48
    updates: int = 3000

    @property
    def rows(self) -> int:
        """Tokens of a packed row that holds every response with its prompt."""
        return max(96, -(-(self.prompt + self.response) // 32) * 32)


OWN, COUNTDOWN = "own", "Countdown"
WORLDS: Mapping[str, World] = {
    OWN: World(),
    "longer": World(("register_chain.operations=(4,4)",), prompt=49, response=72),
    "operators": World(("register_chain.operators=+-*",)),
    "names": World(("register_chain.shuffled_names=True",)),
    COUNTDOWN: World(
        ("name=countdown", "countdown.numbers=(3,3)", "countdown.operators=+-", "countdown.shuffled_names=False"),
        updates=9000,
    ),
}
"""By column; their place among these, from 1, is that in charts."""

ROUNDS, LAST = 20, 5
"""Of PPO, and those at the end whose right answers count. In the own world twenty bring most of what sixty do."""

POOL, PROBLEMS = 16, 128
LOST = ("auc_first", "f1_tuned", "closed", "removed")
"""Measures that worlds of different difficulty have in common."""


def options_of(world: str) -> tuple[str, ...]:
    """The task, with steps rated by what was stated, and rows that hold it."""
    of = WORLDS[world]
    return (
        "--config=quickstart",
        "--config.task.register_chain.rating=local",
        *(f"--config.task.{option}" for option in of.options),
        f"--config.sft.row_tokens={of.rows}",
        f"--config.prm.row_tokens={of.rows}",
        f"--config.ppo.prompt_tokens={of.prompt}",
        f"--config.ppo.max_new_tokens={of.response}",
    )


def arm_of(kind: str, world: str, base: str, more: Sequence[str]) -> Arm:
    """PPO in a world from the policy of `base`, paid by a reward model of the own world; then selection among the
    responses of the policy before PPO."""
    options = (
        *options_of(world),
        '--config.stages=("ppo",)',
        '--config.from_base=("sft","prm")',
        f"--config.prm.target={kind}",
        f"--config.prm.run={{prm-{kind}}}",
        "--config.eval.kind=best_of_n",
        *more,
    )
    return Arm(kind, world, options, base)


def read(workdir: Path) -> Figures:
    """Figures of the scores and of selection on the policy's responses before PPO, and right answers after it."""
    run = read_run(workdir)
    responses = workdir / FOLDER / f"sft-{run.config['eval']['split']}.jsonl"
    kind = run.config["prm"]["target"]
    figures = score_figures(read_solutions(responses), kind)
    figures |= selection_figures(run.evaluation[MEASURES]["best_of_n"], KINDS[kind])
    rounds = [record for record in run.metrics if record["stage"] == "ppo" and "true/accuracy" in record]
    after, before = float(np.mean([record["true/accuracy"] for record in rounds[-LAST:]])), figures["accuracy"]
    return figures | {
        "guess": guessed(run.config["task"], [row["extra"]["prompt"] for row in read_lines(responses, [])]),
        "after": after,
        "gain": after - before,
        "removed": (after - before) / (1 - before) if before < 1 else float("nan"),
    }


def guessed(task: Mapping, prompts: Sequence[str]) -> float:
    """Chance of a right answer without any skill: of one value of all, or (Countdown, where the answer stands in the
    prompt) of moves that are right and drawn evenly."""
    if task["name"] != "countdown":
        return 1 / task["register_chain"]["modulus"]
    config = CountdownConfig(**task["countdown"])
    puzzles = [parse_puzzle(prompt, config.modulus) for prompt in dict.fromkeys(prompts)]
    return float(np.mean([chance(hand_of(p.numbers.values()), p.target, rules_of(config)) for p in puzzles]))


REDUCED = (*QUICK_RUN, "--config.eval.rows=16")
"""So few rows that every stage but PPO samples by one program."""


def plan(quick: bool) -> Plan:
    """The reduced study has one base: the policy, too, is of the own world."""
    if quick:
        both = (*options_of(OWN), '--config.stages=("sft","prm")', *REDUCED)
        small = (*REDUCED, *QUICK_PPO, "--config.eval.pool=4", "--config.eval.problems=16")
        return Plan([arm_of("step", COUNTDOWN, "prm-step", small)], {"prm-step": both}, read=read)
    policies = {
        f"sft-{name}": (*options_of(name), '--config.stages=("sft",)', f"--config.sft.updates={world.updates}")
        for name, world in WORLDS.items()
    }
    learn = (*options_of(OWN), '--config.stages=("prm",)', f"--config.base={{sft-{OWN}}}")
    models = {f"prm-{kind}": (*learn, f"--config.prm.target={kind}") for kind in KINDS}
    measured = (f"--config.eval.pool={POOL}", f"--config.eval.problems={PROBLEMS}")
    more = (f"--config.ppo.iterations={ROUNDS}", *measured)
    arms = [arm_of(kind, world, f"sft-{world}", more) for kind in KINDS for world in WORLDS]
    return Plan(arms, models, policies, read=read)


def _charts(found: Found) -> list[Chart]:
    """A line for each reward model over the worlds."""
    charts = []
    place = {world: number for number, world in enumerate(WORLDS, start=1)}
    for name in ("auc_first", "closed", "removed"):
        lines = []
        for kind in dict.fromkeys(arm.row for arm in found):
            of = {place[arm.column]: summed_up(found, arm, name) for arm in found if arm.row == kind}
            spread = tuple((x, one.low, one.high) for x, one in of.items() if np.isfinite(one.low))
            points: Points = [(x, one.mean if np.isfinite(one.mean) else None) for x, one in of.items()]
            lines.append(Line(kind, points, spread=spread))
        measure, worlds = STUDY.measures[name], ", ".join(f"{x} {world}" for world, x in place.items())
        charts.append(Chart(measure.words, tuple(lines), unit=measure.unit, x_name=f"world: {worlds}", width=440))
    return charts


def _tables(found: Found) -> list[Table]:
    """What is lost on the way from the own world to another, and how much more others lose than the model of steps."""
    arms = {(arm.row, arm.column): arm for arm in found}
    kinds = list(dict.fromkeys(row for row, _ in arms))
    worlds = [world for world in dict.fromkeys(column for _, column in arms) if world != OWN]
    tables: list[Table] = []
    if all(column != OWN for _, column in arms):  # a reduced study
        return tables
    for name in LOST:
        measure, lost, rows = STUDY.measures[name], dict[tuple[str, str], dict[int, float]](), []
        for kind in kinds:
            own = of_seeds(found, arms[kind, OWN], name)
            for world in worlds:
                there = of_seeds(found, arms[kind, world], name)
                lost[kind, world] = {seed: own[seed] - there[seed] for seed in own if seed in there}
            rows.append([kind, *(shown(summary(list(lost[kind, world].values())), measure) for world in worlds)])
        for kind in kinds:
            if kind != "step" and "step" in kinds:
                pairs = [shown(paired(lost[kind, world], lost["step", world]), measure) for world in worlds]
                rows.append([f"{kind} − step", *pairs])
        title = f"{measure.words}: what is lost against the own world, by seed, mean [95 % bootstrap interval]"
        tables.append((title, ["reward model", *(f"world = {world}" for world in worlds)], rows))
    return tables


STUDY = Study(
    name="generalise",
    title="Reward models in other worlds",
    claim="A reward model that judges each step by itself generalises further than one of prefixes or of values.",
    measures={
        "guess": Measure("right answers without skill", "share"),
        "accuracy": Measure("right answers of the world's policy, one sample", "share"),
        "auc": Measure("AUC of scores, right against wrong steps", digits=3),
        "auc_first": Measure("AUC of scores, steps up to the first error", digits=3),
        "auc_own": Measure("AUC against what the model learned to say", digits=3),
        "f1": Measure("F1 of the first error, threshold 0.5", digits=3),
        "f1_tuned": Measure("F1 of the first error, threshold tuned in the world", digits=3),
        "majority": Measure("right answers, majority of the pool", "share"),
        "best_min": Measure("right answers, best of the pool by the worst step", "share"),
        "best_last": Measure("right answers, best of the pool by the last step", "share"),
        "any": Measure("right answer anywhere in the pool", "share"),
        "closed": Measure("way from one sample to any of the pool that selection comes", "share"),
        "after": Measure(f"right answers in the last {LAST} rounds of PPO", "share"),
        "gain": Measure("right answers that PPO adds", "share"),
        "removed": Measure("wrong answers that PPO removes", "share"),
    },
    plan=plan,
    x_name="world",
    compared=[(kind, "step") for kind in KINDS if kind != "step"],
    charts=_charts,
    tables=_tables,
)

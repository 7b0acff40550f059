"""The report of a run: one self-contained HTML file from the files of a work directory.

Model text is untrusted: the template escapes all it prints, odd characters are spelled out, and the page's content
security policy allows only its own script and no network. The same files give the same report.
"""

import sys
from pathlib import Path
from typing import Any

from stepjax.console.progress import say
from stepjax.measures.step_classes import CLASSES
from stepjax.report import facts, template
from stepjax.report.curves import curves
from stepjax.report.gaming import detect_gaming
from stepjax.report.hacks import examples, payments
from stepjax.report.held_out import FILTERS, held_out
from stepjax.report.measures import measures
from stepjax.report.read import RunFiles, read_run
from stepjax.report.samples import legend, logged_filters, pick
from stepjax.report.text import figure, number, title
from stepjax.report.verdict import before_after, verdict
from stepjax.workdir.json_file import MEASURES

__all__ = ["detect_gaming", "write_report"]

MAX_ALARMS = 8
OPEN = ("outcome", "spread", "length", "steps", "hack")
"""Groups of curves that the page shows; it folds the others away."""


def write_report(workdir: Path) -> Path:
    """Writes `report.html` into a work directory and gives its path.

    UserError where the folder is not a work directory or cannot be written. The file is written whole or not at all.
    """
    workdir = Path(workdir)
    run = read_run(workdir)
    for note in run.notes:
        say(note, stream=sys.stderr)
    return template.write(render(run), workdir / "report.html")


def render(run: RunFiles) -> str:
    """The page of a run."""
    iterations = pick(run.samples)
    shown = sum(len(iteration.cards) for iteration in iterations)
    groups = curves(run.metrics)
    changed, options = facts.options(run.config)
    return template.render(
        "page.html.j2",
        name=run.name,
        facts=[*facts.stages(run.metrics, run.executions), *facts.machine(run.executions)],
        verdict=verdict(run.metrics, run.evaluation),
        gaming=detect_gaming(run.metrics, run.evaluation),
        table=before_after(run.evaluation),
        conditions=_conditions(run.evaluation),
        notes=[*_evaluation_notes(run.evaluation), *_alarms(run.metrics), *run.notes],
        filters=FILTERS,
        choices=["all", *FILTERS],
        held=held_out(run.responses),
        groups=[group for group in groups if group.id in OPEN],
        folded=[group for group in groups if group.id not in OPEN],
        confusions=_confusions(run.evaluation),
        payments=payments(run.hacks),
        measures=measures(run.evaluation.get(MEASURES)),
        edit_examples=examples(run.hacks),
        iterations=iterations,
        legend=legend(iterations),
        logged_filters=logged_filters(iterations),
        samples_shown=shown,
        samples_left_out=len(run.samples) - shown,
        searches=[(page, page.removeprefix("search/").removesuffix(".html")) for page in run.searches],
        changed=changed,
        options=options,
    )


def _conditions(evaluation: dict[str, Any]) -> str:
    """How the figures of the table were measured."""
    parts = []
    if (problems := number(evaluation.get("problems"))) is not None:
        split = evaluation.get("split")
        parts.append(f"{problems:,.0f} problems" + (f" of the {split} split" if isinstance(split, str) else ""))
    for key, words in (("temperature", "temperature {}"), ("seed", "seed {}"), ("seconds", "in {} seconds")):
        if (value := number(evaluation.get(key))) is not None:
            parts.append(words.format(figure(value) if key != "seed" else f"{value:.0f}"))
    return ", ".join(parts)


def _evaluation_notes(evaluation: dict[str, Any]) -> list[str]:
    notes = evaluation.get("notes")
    return [str(note) for note in notes] if isinstance(notes, list) else []


def _alarms(metrics: list[dict[str, Any]]) -> list[str]:
    """The last alarms of the reward-hacking monitors during PPO."""
    told = [(r["step"], r["hack/alarm"]) for r in metrics if isinstance(r.get("hack/alarm"), list)]
    sentences = [f"Alarm at iteration {step}: {sentence}." for step, found in told for sentence in found]
    return sentences[-MAX_ALARMS:]


def _confusions(evaluation: dict[str, Any]) -> list[dict[str, Any]]:
    """The reward model's classes of each stage's steps: counts by exact rating (rows) and its own class (columns)."""
    tables = []
    stages = evaluation.get("prm")
    for stage, row in stages.items() if isinstance(stages, dict) else ():
        if not isinstance(row, dict):
            continue
        by_class = row["f1"] if isinstance(row.get("f1"), dict) else {}
        scores = [("Macro F1", number(row.get("macro_f1"))), ("Accuracy", number(row.get("accuracy")))]
        scores += [(f"F1 {name}", number(by_class.get(name))) for name in CLASSES]
        counts, rows = row.get("confusion"), []
        if isinstance(counts, list) and len(counts) == 3 and all(isinstance(r, list) and len(r) == 3 for r in counts):
            for name, line in zip(CLASSES, counts, strict=True):
                values = [number(v) or 0.0 for v in line]
                total = sum(values)
                rows.append((name, [(figure(v), v / total if total > 0 else None) for v in values]))
        known = [(words, f"{score:.3f}") for words, score in scores if score is not None]
        if rows or known:
            steps = number(row.get("steps"))
            tables.append(
                {"stage": title(stage), "scores": known, "rows": rows, "steps": "" if steps is None else figure(steps)}
            )
    return tables

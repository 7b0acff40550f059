"""The table of the study of labels for process reward models: mean and spread over seeds."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepjax.console.progress import table
from stepjax.studies.prm_study_labels import KINDS
from stepjax.studies.prm_study_measures import WORLDS


def figures_of(world: dict[str, Any], kind: str) -> dict[str, float]:
    """The figures of the table, by name; NaN where a study was too small to have one."""
    of = world["kinds"][kind]
    curves, sizes = of["best_of_n"]["curves"], of["best_of_n"]["sizes"]

    def figure(*names: str) -> float:
        found: Any = of
        for name in names:
            found = found.get(name) if isinstance(found, dict) else None
        return float("nan") if found is None else found

    def at(name: str, n: int) -> float:
        return curves[name]["mean"][sizes.index(n)] if n in sizes else float("nan")

    return {
        "F1 at .5": figure("first_error", "fixed", "f1"),
        "F1 tuned": figure("first_error", "tuned", "f1"),
        "AUC step": figure("steps", "auc"),
        "AUC value": figure("values", "auc"),
        "|P − value|": figure("values", "mean_difference"),
        **{f"best of {n}, min": at("best/min", n) for n in (4, 16, 64)},
        **{f"best of {n}, last": at("best/last", n) for n in (4, 16, 64)},
        "majority of 64": at("majority", 64),
        "pass@64": at("pass", 64),
    }


def show_table(studies: Sequence[dict[str, Any]]) -> None:
    """Mean and spread (standard deviation) over seeds, a table a world; all figures times 100."""
    for name in WORLDS:
        worlds = [study["worlds"][name] for study in studies]
        names = list(figures_of(worlds[0], "exact"))
        columns: dict[str, list[str]] = {}
        for kind in KINDS:
            of_seeds = [figures_of(world, kind) for world in worlds]
            columns[kind] = []
            for figure in names:
                x = np.array([row[figure] for row in of_seeds], np.float64)
                columns[kind].append(
                    f"{100 * x.mean():.1f}±{100 * x.std(ddof=1):.1f}" if len(x) > 1 else f"{100 * x[0]:.1f}"
                )
        accuracy = np.mean([world["accuracy"] for world in worlds])
        rows = [[figure, *(columns[kind][i] for kind in KINDS)] for i, figure in enumerate(names)]
        title = f"{name}, in %, {len(studies)} seeds; the policy itself {100 * accuracy:.1f}"
        table(title, ["", *KINDS], rows)

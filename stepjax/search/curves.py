"""`stepjax eval --config.kind=search`: accuracy against cost of searches, methods × budgets × scorers.

Each search is a file of `stepjax search`. All share the loaded models and the compiled programs; a later call goes on
where one was stopped, in the middle of a search.
"""

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stepjax.console.progress import Bar, progress
from stepjax.evaluation.results import publish
from stepjax.measures.search_curves import Name, Pool, search_report
from stepjax.parallel import is_main_process, only_asked_transfers
from stepjax.report.trees import write_search
from stepjax.runs.setup import Run
from stepjax.search.ask import Sampled
from stepjax.search.command import check_search
from stepjax.search.curve_file import CurveFile, Outcome, column
from stepjax.search.file import COSTS
from stepjax.search.grid import REFERENCE, Cell, Grid, grid_of
from stepjax.search.methods import METHODS
from stepjax.search.replay import Replay
from stepjax.search.scorers import Scorer, search_scorer
from stepjax.search.searcher import Searcher

KIND = "search"
FOLDER = Path("search") / "curves"
FIGURES = ("right", "any_right", "score", "tokens", "steps", *COSTS)
TOLD = ("width", "choose", "aggregate", "temperature", "lookahead", "budget", "split", "seed")
"""Options of the searches that the figures name."""


def measure_search(run: Run) -> dict[str, Any]:
    """Searches all problems by each method, budget and scorer, compares them, and publishes the figures."""
    start = time.perf_counter()
    check_search(run.config)
    searcher = Searcher(run)
    grid = grid_of(run, searcher.longest)
    searches = _Cells(searcher, grid)
    outcomes = searches.outcomes()
    cells: dict[Name, dict[str, np.ndarray]] = {
        (cell.method, cell.budget, cell.prm): {name: column(of, name) for name in FIGURES}
        for cell, of in sorted(outcomes.items(), key=lambda item: grid.place(item[0]))
    }
    rated = [prm for prm, scorer in searches.scorers.items() if not scorer.oracle and not scorer.constant]
    oracles = [prm for prm, scorer in searches.scorers.items() if scorer.oracle]
    options = run.config.search
    notes = [] if not searcher.prompts.left_out else [f"{searcher.prompts.left_out} problems were left out."]
    found: dict[str, Any] = {
        "stage": searcher.stage,
        "problems": len(searcher.names),
        "methods": list(grid.methods),
        "budgets": list(grid.budgets),
        "prms": list(grid.prms),
        "oracles": oracles,
        "scored": [*rated, *oracles],
        **{name: getattr(options, name) for name in TOLD},
        **search_report(cells, _pools(outcomes, grid), reference=REFERENCE, rated=rated, seed=options.seed),
        "records": str(FOLDER),
        "notes": notes,
    }
    return publish(run, KIND, found, since=start)


def _pools(outcomes: Mapping[Cell, list[Outcome]], grid: Grid) -> dict[str, Pool]:
    """Of each scorer, the responses of the largest best-of-N; none where a budget made their numbers differ."""
    found = {}
    for prm in grid.prms:
        of = outcomes[Cell(REFERENCE, grid.budgets[-1], prm)]
        if len({len(one.candidates) for one in of}) == 1:
            slots = np.array([one.candidates for one in of], np.float64)
            found[prm] = Pool(slots[..., 0], slots[..., 1], float(column(of, "generated").mean()))
    return found


class _Cells:
    """The searches of a grid, one after another."""

    def __init__(self, searcher: Searcher, grid: Grid):
        self.searcher, self.grid, self.run = searcher, grid, searcher.run
        stepwise = next((m for m in grid.methods if METHODS[m].stepwise), REFERENCE)
        self.scorers = {prm: self._scorer(prm, stepwise) for prm in grid.prms}
        self._known: dict[str, dict[int, Sampled]] | None = None

    def _scorer(self, prm: str, method: str) -> Scorer:
        options = dataclasses.replace(self.run.config.search, prm=prm, method=method)
        stepwise = METHODS[method].stepwise
        return search_scorer(self.run, options, stepwise=stepwise, option="eval.search_prms")

    def outcomes(self) -> dict[Cell, list[Outcome]]:
        """Of every search, by problem."""
        cells, names = self.grid.cells, self.searcher.names
        found = {}
        with progress("Searches", len(cells) * len(names), "problems") as bar, only_asked_transfers():
            for cell in cells:
                found[cell] = self._searched(cell, bar)
        return found

    def _searched(self, cell: Cell, bar: Bar) -> list[Outcome]:
        searcher, names = self.searcher, self.searcher.names
        options = cell.options(self.run.config.search)
        path = self.run.workdir / FOLDER / f"{cell.method}-{cell.budget}-{cell.prm}-{options.split}.jsonl"
        # Whole responses are the same whatever their number and their scorer, where no budget cuts the number short.
        shared = cell.method == REFERENCE and not options.budget
        keep = shared and self._known is None
        with CurveFile(path, searcher.made_with(options), primary=is_main_process(), keep=keep) as file:
            waiting = [i for i, name in enumerate(names) if name not in file.done]
            bar.advance(len(names) - len(waiting))
            known, told = None, f"right by {cell.method} {cell.budget} {cell.prm}"
            if shared and self._known is not None:
                known = Replay(searcher.prompts.tokens, [self._known[name] for name in names])
            for record in searcher.records(options, self.scorers[cell.prm], waiting, known):
                file.append([record])
                bar.advance(1, **{told: file.right / len(file.done)})
            if keep:
                self._known = file.responses
            found = [file.outcomes[name] for name in names]
        if is_main_process() and (waiting or not path.with_suffix(".html").exists()):
            write_search(path)
        return found

"""The searches of `stepjax eval --config.kind=search`: which there are, from the options."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from stepjax.config import SearchOptions
from stepjax.errors import UserError, nearest
from stepjax.runs.setup import Run
from stepjax.runs.stages import has_stage
from stepjax.search.methods import METHODS, check_method
from stepjax.search.scorers import SCORERS

REFERENCE = "best_of_n"
"""The method that the others are compared with."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """A search of all problems. `budget`: n, or sims of puct."""

    method: str
    budget: int
    prm: str

    def options(self, given: SearchOptions) -> SearchOptions:
        """The search's own options; a method that n / width divides has no more width than n."""
        width = min(given.width, self.budget) if METHODS[self.method].divided else given.width
        own: dict[str, Any] = {
            "method": self.method,
            "prm": self.prm,
            "n": self.budget,
            "sims": self.budget,
            "width": width,
            "out": "",
        }
        return dataclasses.replace(given, **own)


@dataclasses.dataclass(frozen=True)
class Grid:
    """Methods, the reference first; budgets, ascending; scorers."""

    methods: tuple[str, ...]
    budgets: tuple[int, ...]
    prms: tuple[str, ...]

    def place(self, cell: Cell) -> tuple[int, int, int]:
        """By what tables are sorted."""
        return self.prms.index(cell.prm), self.methods.index(cell.method), cell.budget

    @property
    def cells(self) -> list[Cell]:
        """Best-of-N first, the largest of a scorer before the others, which need no further responses."""
        first = [Cell(REFERENCE, n, prm) for prm in self.prms for n in self.budgets[::-1]]
        others = [m for m in self.methods if m != REFERENCE]
        return first + [Cell(m, n, prm) for prm in self.prms for m in others for n in self.budgets]


def grid_of(run: Run, longest: int) -> Grid:
    """The grid that `config.eval` names. UserError where there is no such method, or one contradicts other options.

    `longest`: tokens of the longest response.
    """
    options = run.config.eval
    methods = _names("search_methods", options.search_methods, METHODS)
    prms = _names("search_prms", options.search_prms, SCORERS) if options.search_prms.strip() else usual_prms(run)
    grid = Grid(tuple(dict.fromkeys((REFERENCE, *methods))), _budgets(options.search_budgets), prms)
    width = run.config.search.width
    for cell in grid.cells:
        if METHODS[cell.method].divided and cell.budget > width and cell.budget % width:
            raise UserError(
                f"config.eval.search_budgets={options.search_budgets}: {cell.budget} must be a multiple of "
                f"config.search.width={width} for {cell.method}, which keeps n / width lines"
            )
        check_method(cell.options(run.config.search), longest)
    return grid


def usual_prms(run: Run) -> tuple[str, ...]:
    """The scorers of a run whose options name none."""
    has_model = bool(run.config.prm.path) or has_stage(run, "prm")
    model = "value" if run.config.prm.target == "value" and not run.config.prm.path else "learned"
    rates = run.task.rate_steps(run.task.problems(run.config.search.split)[0], []) is not None
    return (*((model,) if has_model else ()), "uniform", *(("exact",) if rates else ()))


def _names(option: str, given: str, known: Mapping[str, object]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(filter(None, (name.strip() for name in given.split(",")))))
    for name in names:
        if name not in known:
            raise UserError(
                f"config.eval.{option}: no {name!r}{nearest(name, known)}; names of {', '.join(known)}, separated by "
                "commas"
            )
    if not names:
        raise UserError(f"config.eval.{option}: names nothing; give some of {', '.join(known)}")
    return names


def _budgets(given: str) -> tuple[int, ...]:
    try:
        budgets = sorted({int(word) for word in given.split(",") if word.strip()})
    except ValueError:
        budgets = []
    if not budgets or budgets[0] < 1 or budgets[-1] >= 2**15:
        raise UserError(
            f"config.eval.search_budgets={given}: must be whole numbers from 1 to {2**15 - 1}, separated by commas"
        )
    return tuple(budgets)

"""The file of a search: a line a problem, continued by a later call; and the table of what is in it."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stepjax.console.progress import table
from stepjax.data.schema import LabelledSolution
from stepjax.errors import UserError
from stepjax.measures.intervals import wilson
from stepjax.report.search_curves import COSTS
from stepjax.report.tables import count, share
from stepjax.search.records import FOUND
from stepjax.workdir.record_file import RecordFile


class SearchFile(RecordFile):
    """Records of searches.

    Attributes:
      right, any_right, unanswered: problems whose chosen answer is right; with a right one among the candidates; with
        no answer.
      cost: of all problems, by the names in `COSTS`.
    """

    command = "search"

    def __init__(self, path: Path, made_with: Mapping[str, Any], *, primary: bool = True):
        self.right = self.any_right = self.unanswered = 0
        self.cost = Counter[str]()
        super().__init__(path, made_with, primary=primary)

    def _count(self, record: LabelledSolution) -> None:
        super()._count(record)
        found = record.extra.get(FOUND)
        cost = found.get("cost") if isinstance(found, dict) else None
        if not isinstance(found, dict) or not isinstance(cost, dict) or not all(_number(cost.get(c)) for c in COSTS):
            raise UserError(f"{self.path}: record {record.id} has no search; name another {self._option}")
        self.right += bool(record.correct)
        self.any_right += bool(found.get("any_right"))
        self.unanswered += found.get("chosen") is None
        for name in COSTS:
            self.cost[name] += cost[name]

    def show(self, title: str) -> None:
        """Accuracy beside cost, both for a problem."""
        total = len(self.done)
        low, high = wilson(self.right, total)
        columns = ["problems", "right", "95 %", "any right", "no answer", *COSTS.values()]
        row = [count(total), share(self.right / total), f"{100 * low:.1f}–{100 * high:.1f}"]
        row += [share(self.any_right / total), share(self.unanswered / total)]
        costs = [self.cost[name] / total for name in COSTS]
        row += [f"{cost:.3g}" if name == "flops" else f"{cost:,.1f}" for name, cost in zip(COSTS, costs, strict=True)]
        table(title, columns, [row])


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

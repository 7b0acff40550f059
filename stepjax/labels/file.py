"""The file that labels are appended to: a later call continues it, and loses, repeats or mixes no label."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stepjax.data.schema import LabelledSolution
from stepjax.judges.cost import Cost
from stepjax.workdir.record_file import RecordFile


class LabelFile(RecordFile):
    """Labelled records, and what they cost.

    Attributes:
      cost, money: of all records that are there.
      causes: how many of them have no label, by the reason that they state.
    """

    def __init__(self, path: Path, made_with: Mapping[str, Any], *, primary: bool = True):
        self.cost, self.money, self.causes = Cost(), 0.0, Counter[str]()
        super().__init__(path, made_with, primary=primary)

    def _count(self, record: LabelledSolution) -> None:
        super()._count(record)
        self.cost += Cost.from_json(found := record.extra.get("cost"))
        money = found.get("money") if isinstance(found, dict) else None
        self.money += money if isinstance(money, int | float) else 0.0
        if not record.labelled:
            label = record.extra.get("label")
            self.causes[str(label.get("unlabelled", "") if isinstance(label, dict) else "") or "not stated"] += 1

    @property
    def unlabelled(self) -> int:
        """Number of the records without a label."""
        return self.causes.total()

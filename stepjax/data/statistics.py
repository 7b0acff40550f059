"""Statistics of a dataset: labels by class and position, first errors, lengths; in constant memory."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from stepjax.data.schema import LabelledSolution
from stepjax.measures.step_classes import CLASSES

POSITIONS = 16
"""Steps from this one on are counted together."""

_BASE = 1.05  # ratio of neighbouring buckets of lengths: quantiles are exact to within 2.5%


class Lengths:
    """Count, mean, largest and quantiles of whole numbers, in buckets that grow by 5%."""

    def __init__(self) -> None:
        self.count = self.total = self.largest = 0
        self._buckets: Counter[int] = Counter()

    def add(self, length: int) -> None:
        self.count += 1
        self.total += length
        self.largest = max(self.largest, length)
        self._buckets[round(math.log(length + 1, _BASE))] += 1

    @property
    def mean(self) -> float:
        return self.total / max(self.count, 1)

    def quantile(self, share: float) -> float:
        """The length that a `share` of all do not exceed."""
        left = share * self.count
        for bucket in sorted(self._buckets):
            left -= self._buckets[bucket]
            if left <= 0:
                return min(float(self.largest), round(_BASE**bucket - 1))
        return float(self.largest)

    def to_json(self) -> dict[str, float]:
        found = {"mean": round(self.mean, 2), "median": self.quantile(0.5), "p90": self.quantile(0.9)}
        return found | {"p99": self.quantile(0.99), "largest": self.largest}


@dataclass
class Statistics:
    """Filled by `add`, one record after another.

    Attributes:
      tokens: how many tokens a text has; None: not measured.
      labels: by position (capped at `POSITIONS`) and class: "good", "neutral", "bad", "value" (no class, a value) or
        "unlabelled".
      values: values in ten bins of [0, 1]; 1 is in the last.
      first_errors: by position; "none" and "unknown" besides.
    """

    tokens: Callable[[str], int] | None = None
    records: int = 0
    steps: int = 0
    labels: Counter[tuple[int, str]] = field(default_factory=Counter)
    values: Counter[int] = field(default_factory=Counter)
    first_errors: Counter[int | str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    lengths: dict[str, Lengths] = field(default_factory=dict)

    def add(self, record: LabelledSolution) -> None:
        self.records += 1
        self.steps += len(record.steps)
        self.kinds[record.kind] += 1
        self.outcomes[{True: "right", False: "wrong", None: "unknown"}[record.correct]] += 1
        for i, (rating, value) in enumerate(zip(record.ratings, record.values, strict=True)):
            name = CLASSES[rating + 1] if rating is not None else "value" if value is not None else "unlabelled"
            self.labels[min(i, POSITIONS), name] += 1
            if value is not None:
                self.values[min(int(value * 10), 9)] += 1
        error = record.first_error
        self.first_errors["unknown" if error is None else "none" if error < 0 else min(error, POSITIONS)] += 1
        self._length("steps a solution", len(record.steps))
        self._texts("characters", len, record)
        if self.tokens is not None:
            self._texts("tokens", self.tokens, record)

    def _texts(self, unit: str, measure: Callable[[str], int], record: LabelledSolution) -> None:
        steps = [measure(step) for step in record.steps]
        self._length(f"{unit} a problem", measure(record.problem))
        self._length(f"{unit} a solution", sum(steps))
        for length in steps:
            self._length(f"{unit} a step", length)

    def _length(self, name: str, length: int) -> None:
        if name not in self.lengths:
            self.lengths[name] = Lengths()
        self.lengths[name].add(length)

    def by_class(self) -> dict[str, int]:
        found: Counter[str] = Counter()
        for (_, name), count in self.labels.items():
            found[name] += count
        return {name: found[name] for name in (*reversed(CLASSES), "value", "unlabelled") if found[name]}

    def by_position(self) -> list[tuple[str, dict[str, int], int]]:
        """Position (from 1; the last stands for all later ones), labels by class, first errors there."""
        rows = []
        for i in sorted({position for position, _ in self.labels}):
            name = f"{i + 1}+" if i == POSITIONS else str(i + 1)
            rows.append((name, {c: self.labels[i, c] for c in self.by_class()}, self.first_errors[i]))
        return rows

    def to_json(self) -> dict[str, Any]:
        errors = {k: v for k, v in self.first_errors.items() if isinstance(k, str)}
        return {
            "records": self.records,
            "steps": self.steps,
            "kinds": dict(self.kinds),
            "labels": self.by_class(),
            "labels_by_position": {name: found for name, found, _ in self.by_position()},
            "values_in_tenths": [self.values[i] for i in range(10)] if self.values else [],
            "first_error": errors | {name: count for name, _, count in self.by_position() if count},
            "outcomes": dict(self.outcomes),
            "lengths": {name: found.to_json() for name, found in self.lengths.items()},
        }

    def tables(self) -> list[tuple[str, Sequence[str], list[list[Any]]]]:
        """Title, columns and rows of the printed tables."""
        classes = list(self.by_class())
        positions = [[name, *(found[c] for c in classes), error] for name, found, error in self.by_position()]
        total = sum(count for key, count in self.first_errors.items() if not isinstance(key, str))
        positions.append(["all", *self.by_class().values(), total])
        rows = [[name, n.mean, n.quantile(0.5), n.quantile(0.9), n.largest] for name, n in self.lengths.items()]
        return [
            ("labels by step", ["step", *classes, "first error"], positions),
            ("lengths", ["", "mean", "median", "90%", "largest"], rows),
        ]

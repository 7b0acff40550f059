"""One record for every step-labelled dataset: a solution, its steps, their labels, and where these come from.

A record goes to a JSON object (`to_json`) and to a flat row of features for TFDS (`stepjax.data.features`) and comes
back equal. Readers of the public formats (`stepjax.data.readers`) yield records; labellers write them; training and
evaluation take them.
"""

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

KINDS = ("step", "prefix", "value")
"""Meaning of a label: of the step alone; of all steps up to it; how likely the solution ends right from there."""

RATINGS = (-1, 0, 1)
"""Bad, neutral, good."""

NO_ERROR = -1
"""`first_error` of a solution known to have no wrong step."""

_LARGEST = 2**31 - 1
_PER_STEP = ("ratings", "values", "completions", "tokens")


class SchemaError(ValueError):
    """A record that contradicts itself; the message names the field."""


@dataclass(frozen=True)
class LabelledSolution:
    """A solution cut into steps, with one label per step. A per-step tuple is as long as `steps`; None: not labelled.

    An empty text or mapping means "not known". Per-step tuples may be given empty, for "None at every step".

    Attributes:
      problem: the problem's text, as in its source.
      steps: the text of each step, without the separator between steps.
      kind: the meaning of the labels, one of `KINDS`.
      ratings: one class per step: -1 bad, 0 neutral, +1 good.
      values: one probability or value in [0, 1] per step (soft labels, Monte Carlo values), kept in single precision.
      first_error: index from 0 of the first wrong step; -1: no step is wrong; None: not known.
      answer: the right final answer, by the source.
      correct: whether this solution ends in the right answer; None: not known (or it does not end).
      source: name of the dataset or labeller's method ("prm800k", "monte_carlo").
      place: where the record was read: file:line.
      id: the source's own name of the row, extended where one row gives several records.
      labeller: the person, model or method that gave the labels.
      generation: the round of data collection, where the source counts them.
      group: records of one group must not be divided between training and held-out data; empty: the problem's text.
      completions: number of sampled completions per label.
      tokens: number of tokens sampled per label.
      extra: fields without a column of their own; JSON-able.
    """

    problem: str
    steps: tuple[str, ...]
    kind: str = "step"
    ratings: tuple[int | None, ...] = ()
    values: tuple[float | None, ...] = ()
    first_error: int | None = None
    answer: str = ""
    correct: bool | None = None
    source: str = ""
    place: str = ""
    id: str = ""
    labeller: str = ""
    generation: int | None = None
    group: str = ""
    completions: tuple[int | None, ...] = ()
    tokens: tuple[int | None, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.steps)
        _set(self, "steps", tuple(self.steps))
        for name in _PER_STEP:
            column = tuple(getattr(self, name)) or (None,) * count
            if len(column) != count:
                raise SchemaError(f"{name}: {len(column)} entries for {count} steps")
            _set(self, name, column)
        if self.kind not in KINDS:
            raise SchemaError(f"kind: must be one of {', '.join(KINDS)}, not {self.kind!r}")
        for i, rating in enumerate(self.ratings):
            if rating is not None and (rating not in RATINGS or isinstance(rating, bool)):
                raise SchemaError(f"ratings: step {i} has {rating!r}, which is not one of -1, 0, 1")
        if any(value is not None for value in self.values):
            _set(self, "values", tuple(_single(i, value) for i, value in enumerate(self.values)))
        for name in ("completions", "tokens"):
            for i, number in enumerate(getattr(self, name)):
                if number is not None and not _whole(number, 0):
                    raise SchemaError(f"{name}: step {i} has {number!r}, which is not a count")
        if self.first_error is not None and not (_whole(self.first_error, -1) and self.first_error < count):
            raise SchemaError(f"first_error: {self.first_error!r}, but there are {count} steps (-1: none is wrong)")
        if self.generation is not None and not _whole(self.generation, -_LARGEST):
            raise SchemaError(f"generation: must be a whole number, not {self.generation!r}")
        _check_texts(self)

    def with_labels(self, **changes: Any) -> "LabelledSolution":
        """A copy with other labels; columns that are not named stay."""
        return replace(self, **changes)

    @property
    def labelled(self) -> int:
        """Number of steps with a rating or a value."""
        return sum(r is not None or v is not None for r, v in zip(self.ratings, self.values, strict=True))

    def ratings_at(self, threshold: float) -> tuple[int | None, ...]:
        """A rating a step; a step that has a value alone is good (+1) from the threshold on, else bad (−1)."""
        return tuple(
            rating if rating is not None or value is None else (1 if value >= threshold else -1)
            for rating, value in zip(self.ratings, self.values, strict=True)
        )

    def error_at(self, threshold: float | None = None) -> int | None:
        """Index of the first wrong step, as the record states it or else by its ratings; −1: none, None: not known.

        With a threshold, values count as `ratings_at` has them. Of a record without steps nothing is known.
        """
        if self.first_error is not None or not self.steps:
            return self.first_error
        return first_error_of(self.ratings if threshold is None else self.ratings_at(threshold))

    @property
    def group_key(self) -> str:
        """The same text for records that belong together when data is divided."""
        return self.group or " ".join(self.problem.split())

    def share(self, salt: str = "") -> float:
        """A number in [0, 1) from the group alone, the same on every machine: divides data without leakage."""
        digest = hashlib.sha256(f"{salt}\0{self.group_key}".encode()).digest()
        return int.from_bytes(digest[:6], "big") / (1 << 48)

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping; columns without known values are left out."""
        found: dict[str, Any] = {"problem": self.problem, "steps": list(self.steps), "kind": self.kind}
        for name in _PER_STEP:
            column = getattr(self, name)
            if any(entry is not None for entry in column):
                found[name] = [_shortest(v) for v in column] if name == "values" else list(column)
        for name in ("first_error", "correct", "generation"):
            if (value := getattr(self, name)) is not None:
                found[name] = value
        for name in ("answer", "source", "place", "id", "labeller", "group"):
            if value := getattr(self, name):
                found[name] = value
        if self.extra:
            found["extra"] = dict(self.extra)
        return found

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "LabelledSolution":
        """The record of `to_json`'s mapping. SchemaError names a field that is unknown, missing or of a wrong type."""
        for name in row:
            if name not in _FIELDS:
                raise SchemaError(f"no field {name!r}; a record may have {', '.join(_FIELDS)}")
        for name in ("problem", "steps"):
            if row.get(name) is None:
                raise SchemaError(f"no field {name!r}; the row has {', '.join(map(repr, row)) or 'no fields'}")
        given = {name: value for name, value in row.items() if value is not None}
        for name in ("steps", *_PER_STEP):
            if name in given and not isinstance(given[name], list | tuple):
                raise SchemaError(f"{name}: must be a list, not {type(given[name]).__name__}")
        if not isinstance(given.get("extra", {}), Mapping):
            raise SchemaError("extra: must be an object")
        return cls(**given)


def first_error_of(ratings: Sequence[int | None]) -> int | None:
    """The first bad step; −1 where none is bad; None where a step before it has no rating."""
    for i, rating in enumerate(ratings):
        if rating is None:
            return None
        if rating < 0:
            return i
    return NO_ERROR


def line(record: LabelledSolution) -> str:
    """One line of a JSONL file of records, with its line end."""
    return json.dumps(record.to_json(), ensure_ascii=False, allow_nan=False) + "\n"


_FIELDS = tuple(f.name for f in fields(LabelledSolution))


def _set(record: LabelledSolution, name: str, value: Any) -> None:
    object.__setattr__(record, name, value)


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= _LARGEST


def _check_texts(record: LabelledSolution) -> None:
    for name in ("problem", "answer", "source", "place", "id", "labeller", "group"):
        if not isinstance(getattr(record, name), str):
            raise SchemaError(f"{name}: must be text, not {type(getattr(record, name)).__name__}")
    for i, step in enumerate(record.steps):
        if not isinstance(step, str):
            raise SchemaError(f"steps: step {i} must be text, not {type(step).__name__}")
    if record.correct is not None and not isinstance(record.correct, bool):
        raise SchemaError(f"correct: must be true, false or null, not {record.correct!r}")


def _single(i: int, value: Any) -> float | None:
    """The nearest number of single precision, as TFDS stores it."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise SchemaError(f"values: step {i} has {value!r}, which is not a number in [0, 1]")
    return struct.unpack("f", struct.pack("f", value))[0]


def _shortest(value: float | None) -> float | None:
    """The shortest decimal that single precision reads as this number."""
    if value is None:
        return None
    for digits in (3, 6, 7, 8):
        if _single(0, short := float(f"{value:.{digits}g}")) == value:
            return short
    return value

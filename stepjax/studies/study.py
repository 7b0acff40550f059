"""What a study is: arms, seeds and measures.

An arm is a row (what is compared) and a column (the value of what is swept). Each arm has figures of every seed: of a
training run of its own, or of an exact world that measures all arms of a seed at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stepjax.report.charts import Chart

Figures = dict[str, float]
"""By measure; a measure that an arm does not have is left out."""


@dataclass(frozen=True)
class Arm:
    """What is compared.

    Attributes:
      row, column: its places in the tables; charts have a line for each row, over the columns that are numbers.
      options: of `stepjax quickstart`, where the arm is a training run; `{NAME}` in them is the work directory of the
        base of that name.
      base: name of the base that the run goes on from; "": of none.
    """

    row: str
    column: str = ""
    options: tuple[str, ...] = ()
    base: str = ""

    @property
    def name(self) -> str:
        return f"{self.row}-{self.column}" if self.column else self.row


@dataclass(frozen=True)
class Measure:
    """A figure of an arm: what it is, for people; `unit` "share" is shown in percent, others with `digits`.

    `log`: its chart has a logarithmic axis.
    """

    words: str
    unit: str = ""
    digits: int = 2
    log: bool = False


Found = Mapping[Arm, Mapping[int, Figures]]
"""Figures of an arm and seed; those of a run that failed are missing."""

Table = tuple[str, list[str], list[list[str]]]
"""Title, columns, rows."""

ByArm = dict[tuple[str, str], Figures]
"""Figures by row and column."""


@dataclass(frozen=True)
class Plan:
    """The arms of a study, full or reduced.

    Attributes:
      arms: what is measured.
      bases: by name, options of the runs that arms go on from, trained once a seed; in them `{NAME}` is the work
        directory of one before.
      shared: bases before those, trained with seed 0 alone and used by all seeds: differences between seeds are then
        those of what comes after.
      exact: measures all arms of a seed in an exact world: `exact(seed, known, keep)`, where `known` are figures that
        an earlier start measured, and `keep` is called with all there are whenever there are more. None: arms are
        training runs.
      read: the figures of a finished run's work directory.
    """

    arms: Sequence[Arm]
    bases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    shared: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    exact: Callable[[int, ByArm, Callable[[ByArm], None]], ByArm] | None = None
    read: Callable[[Path], Figures] | None = None


@dataclass(frozen=True)
class Study:
    """A study.

    Attributes:
      name: as on the command line.
      title: of its page.
      claim: the sentence that it tests.
      measures: by name.
      plan: `plan(quick)`.
      x_name: what the columns are.
      compared: pairs of rows (of the same column) whose difference by seed is shown.
      drawn: measures with a chart, a line for each of `lines` (rows; none: the first six).
      charts, tables: further ones.
    """

    name: str
    title: str
    claim: str
    measures: Mapping[str, Measure]
    plan: Callable[[bool], Plan]
    x_name: str = ""
    compared: Sequence[tuple[str, str]] = ()
    drawn: Sequence[str] = ()
    lines: Sequence[str] = ()
    charts: Callable[[Found], Sequence[Chart]] | None = None
    tables: Callable[[Found], Sequence[Table]] | None = None

"""The file of one search among many, with what the curves need of each problem."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stepjax.data.schema import LabelledSolution
from stepjax.errors import UserError
from stepjax.search.ask import Sampled
from stepjax.search.file import COSTS, SearchFile
from stepjax.search.records import FOUND, TREE
from stepjax.search.replay import whole_responses
from stepjax.search.tree import Tree


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a search of a problem came to.

    Attributes:
      right, any_right: of the chosen answer; of the candidates.
      score: of the chosen response by the scorer; 0 where there is no answer.
      tokens, steps: of the chosen response.
      cost: by the names of `COSTS`.
      candidates: score and whether it is right, of each slot.
    """

    right: bool
    any_right: bool
    score: float
    tokens: int
    steps: int
    cost: Mapping[str, float]
    candidates: tuple[tuple[float, bool], ...]


class CurveFile(SearchFile):
    """Records of a search.

    Attributes:
      outcomes: by the problem's name.
      responses: all responses of each problem by their numbers, where they are kept.
    """

    command = "eval"
    _option = "--workdir, or move its search/curves away"

    def __init__(self, path: Path, made_with: Mapping[str, Any], *, primary: bool = True, keep: bool = False):
        """`keep`: keeps the responses, of a best-of-N."""
        self.outcomes: dict[str, Outcome] = {}
        self.responses: dict[str, dict[int, Sampled]] = {}
        self._keep = keep
        super().__init__(path, made_with, primary=primary)

    def _count(self, record: LabelledSolution) -> None:
        super()._count(record)
        try:
            self.outcomes[record.id] = outcome_of(record)
            if self._keep:
                self.responses[record.id] = whole_responses(Tree.from_json(record.extra[TREE]))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UserError(f"{self.path}: record {record.id} has no search ({error}); delete the file") from None


def outcome_of(record: LabelledSolution) -> Outcome:
    """From the record of a search; KeyError, TypeError, ValueError or IndexError where it is none."""
    found = record.extra[FOUND]
    candidates, chosen = found["candidates"], found["chosen"]
    slots = [(float(c["score"]), bool(c["correct"])) for c in candidates for _ in range(c["share"])]
    return Outcome(
        right=bool(record.correct),
        any_right=bool(found["any_right"]),
        score=0.0 if chosen is None else float(candidates[chosen]["score"]),
        tokens=len(record.extra["tokens"]),
        steps=len(record.steps),
        cost={name: float(found["cost"][name]) for name in COSTS},
        candidates=tuple(slots),
    )


def column(outcomes: list[Outcome], name: str) -> np.ndarray:
    """One figure of all problems: a field of `Outcome`, or a cost."""
    if name in COSTS:
        return np.array([one.cost[name] for one in outcomes], np.float64)
    return np.array([getattr(one, name) for one in outcomes], np.float64)

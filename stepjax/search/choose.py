"""Choosing an answer among the responses of a search."""

import dataclasses
from collections.abc import Callable, Sequence

from stepjax.measures.selection import TIE
from stepjax.search.ties import Ties


@dataclasses.dataclass(frozen=True)
class Vote:
    """What a response has to say.

    Attributes:
      answer: the number of its final answer, equal ones alike; −1: it has none, was cut or is not finished.
      score: by the scorer, in [0, 1].
      share: the slots that it fills.
    """

    answer: int
    score: float
    share: int = 1


@dataclasses.dataclass(frozen=True)
class Choice:
    """The number of the chosen response, and the weight of each answer; None: none has an answer."""

    response: int | None
    weights: dict[int, float]


def _weighted(vote: Vote) -> float:
    return vote.share * vote.score


def _counted(vote: Vote) -> float:
    return float(vote.share)


WEIGHTS: dict[str, Callable[[Vote], float] | None] = {"vote": _weighted, "majority": _counted, "best": None}
"""What a response adds to its answer's weight: slots times score, slots alone; None: only the highest score counts."""


def choose(votes: Sequence[Vote], how: str, ties: Ties) -> Choice:
    """The answer of the greatest weight, and of its responses the one of the highest score; equals at random.

    Weights of one answer are summed over all its responses, so that it does not matter how it is spelled or reached.
    """
    given = [i for i, vote in enumerate(votes) if vote.answer >= 0]
    weight, weights = WEIGHTS[how], dict[int, float]()
    for i in given:
        vote = votes[i]
        old = weights.get(vote.answer, 0.0)
        weights[vote.answer] = max(old, vote.score) if weight is None else old + weight(vote)
    if not given:
        return Choice(None, {})
    answer = _one(sorted(weights), [weights[a] for a in sorted(weights)], ties)
    own = [i for i in given if votes[i].answer == answer]
    return Choice(_one(own, [votes[i].score for i in own], ties), weights)


def _one(names: Sequence[int], scores: Sequence[float], ties: Ties) -> int:
    """The name of the greatest score; sums of the same terms in another order are equal."""
    top = max(scores)
    equal = [name for name, score in zip(names, scores, strict=True) if score >= top - TIE * abs(top)]
    return equal[ties.choose(len(equal), 1)[0]]

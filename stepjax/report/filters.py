"""Which responses a reader looks for: wrong ones, right ones with a wrong step, those that a reward model misjudges."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from stepjax.measures.repeats import is_empty, repeated_steps
from stepjax.tasks.gsm8k import trivial_calculations

THRESHOLD = 0.5
"""P(right) below which a process reward model takes a step to be wrong."""


class Judged(Protocol):
    """A response with what is known of it: `correct` None where it was not graded; exact rating (−1, 0, 1) and P(right)
    of each step, None where it is not known; the numbers of the steps that are an environment's replies."""

    @property
    def steps(self) -> Sequence[str]: ...
    @property
    def correct(self) -> bool | None: ...
    @property
    def finished(self) -> bool: ...
    @property
    def ratings(self) -> Sequence[float | None]: ...
    @property
    def prm(self) -> Sequence[float | None]: ...
    @property
    def replies(self) -> Collection[int]: ...


def wrong(response: Judged) -> bool:
    return response.correct is False


def right(response: Judged) -> bool:
    return response.correct is True


def truncated(response: Judged) -> bool:
    return not response.finished


def wrong_step(response: Judged) -> bool:
    """A right answer with a step that is rated wrong."""
    return response.correct is True and any(rating is not None and rating < 0 for rating in response.ratings)


def step_disagrees(p: float | None, rating: float | None) -> bool:
    """The process reward model takes a step for right that is rated wrong, or the reverse."""
    return p is not None and rating is not None and (p >= THRESHOLD) != (rating >= 0)


def disagrees(response: Judged) -> bool:
    """The process reward model and the exact ratings differ on a step; without ratings, on the answer: it takes all
    steps of a wrong response to be right, or some step of a right one to be wrong."""
    pairs = [(p, r) for p, r in zip(response.prm, response.ratings, strict=True) if p is not None and r is not None]
    if pairs:
        return any(step_disagrees(p, r) for p, r in pairs)
    known = [p >= THRESHOLD for p in response.prm if p is not None]
    return bool(known) and response.correct is not None and all(known) != response.correct


def alarm(response: Judged) -> bool:
    """What the monitors of reward hacking count: a repeated or empty step, a trivial calculation, no step at all."""
    steps = [step for number, step in enumerate(response.steps) if number not in response.replies]
    return (
        not steps
        or repeated_steps(steps)[1] > 0
        or any(is_empty(step) or trivial_calculations(step)[0] > 0 for step in steps)
    )


def replies_of(row: Mapping[str, Any]) -> Collection[int]:
    """The steps that are an environment's replies; none where the row does not tell."""
    found = row.get("replies")
    return [x for x in found if isinstance(x, int)] if isinstance(found, list) else ()

"""Many searches at once whose questions are answered as they come: none waits for the slowest of a round.

`stepjax.drive` answers all questions of a round before any search goes on, which leaves slots empty at the end of each
round. Here each search goes on as soon as its own questions are answered.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from stepjax.search.ask import Asked, Expand, Forget

R = TypeVar("R")
Asking = Generator[list[Asked], list[Any], R]


class Polled(Protocol):
    """Answers `Expand` and `Forget` as they come, as `LiveAnswers` does.

    Attributes:
      open: continuations that decode or wait.
    """

    @property
    def open(self) -> int: ...

    def ask(self, asked: Sequence[Asked]) -> range:
        """Takes questions, which `poll` answers by these numbers."""
        ...

    def poll(self) -> dict[int, Any]:
        """The answers that are complete now, by the numbers of their questions."""
        ...


class _Open:
    """A search with questions that are not answered yet.

    Attributes:
      places: of each question, by its number.
      asks: continuations that it asks for.
      holds: those that stay in the cache when they end, of this round; while it asks for none, of the one before.
    """

    def __init__(self, search: Asking[Any], asked: list[Asked], before: int = 0):
        self.search, self.asked = search, asked
        self.answers: list[Any] = [None] * len(asked)
        self.places: dict[int, int] = {}
        expands = [one.question for one in asked if isinstance(one.question, Expand)]
        self.asks = sum(len(one.numbers) for one in expands)
        self.holds = sum(len(one.numbers) for one in expands if one.steps and not one.greedy) or before


def flow(
    searches: Iterable[Asking[R]],
    live: Polled,
    others: Callable[[Sequence[Asked]], list[Any]],
    *,
    enough: int,
    most: int = 0,
) -> Iterator[R]:
    """Results in the order in which the searches end; what each finds depends on none of the others.

    Args:
      searches: as `of_problem` makes them; started one after the other.
      live: answers `Expand` and `Forget`.
      others: answers all other questions that are open, in order.
      enough: continuations that decode or wait, up to which further searches are started: a few times the slots.
      most: continuations that may stay in the cache of searches at once, also those that have ended and wait for the
        others of their search: they would be forgotten to make room for more. 0: any number.
    """
    waiting = iter(searches)
    fresh: list[_Open] = []
    by_number: dict[int, _Open] = {}
    more = True
    while True:
        while more and _room_for_more(fresh, by_number, live, enough, most):
            search = next(waiting, None)
            if search is None:
                more = False
                break
            try:
                fresh.append(_Open(search, next(search)))
            except StopIteration as end:
                yield end.value
        _answer(fresh, live, others, by_number)
        complete, fresh = [one for one in fresh if not one.places], []
        if not (complete or by_number or more):
            return
        for number, answer in (live.poll() if by_number else {}).items():
            one = by_number.pop(number)
            one.answers[one.places.pop(number)] = answer
            if not one.places:
                complete.append(one)
        for one in complete:
            try:
                fresh.append(_Open(one.search, one.search.send(one.answers), one.holds))
            except StopIteration as end:
                yield end.value


def _room_for_more(
    fresh: Sequence[_Open], by_number: Mapping[int, _Open], live: Polled, enough: int, most: int
) -> bool:
    held = {id(one): one.holds for one in (*fresh, *by_number.values())}
    return live.open + sum(one.asks for one in fresh) < enough and (not most or sum(held.values()) < most)


def _answer(
    fresh: list[_Open],
    live: Polled,
    others: Callable[[Sequence[Asked]], list[Any]],
    by_number: dict[int, _Open],
) -> None:
    """Asks all questions of some searches; those of other kinds are answered at once."""
    apart: list[tuple[_Open, int]] = []
    for one in fresh:
        for place, asked in enumerate(one.asked):
            if isinstance(asked.question, Expand | Forget):
                (number,) = live.ask([asked])
                one.places[number], by_number[number] = place, one
            else:
                apart.append((one, place))
    answers = others([one.asked[place] for one, place in apart]) if apart else []
    for (one, place), answer in zip(apart, answers, strict=True):
        one.answers[place] = answer

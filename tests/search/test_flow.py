"""Searches that go on as their questions are answered, by a made-up rollout that ends some continuations each time."""

import pytest

from stepjax.search.ask import End, Expand, Sampled, Score, of_problem
from stepjax.search.flow import flow

LINES, ROUNDS = 8, 6


class Ending:
    """Each poll ends the four oldest continuations; `held`: the most that searches had in the cache at once."""

    def __init__(self):
        self._left: dict[int, int] = {}
        self._under_way: dict[int, int] = {}
        self.count = self.held = self.busy = self.polls = 0

    @property
    def open(self):
        return sum(self._left.values())

    def ask(self, asked):
        (one,) = asked
        if isinstance(one.question, Expand):
            self._left[self.count] = len(one.question.numbers)
            self._under_way[one.problem] = len(one.question.numbers)
            self.held = max(self.held, sum(self._under_way.values()))
        self.count += 1
        return range(self.count - 1, self.count)

    def poll(self):
        room, found = 4, {}
        self.polls += 1
        self.busy += min(room, self.open)
        for number in list(self._left):
            ended = min(room, self._left[number])
            room -= ended
            self._left[number] -= ended
            if not self._left[number]:
                del self._left[number]
                found[number] = [Sampled((1,), (0.0,), End.STEP)] * LINES
        return found

    def over(self, problem):
        del self._under_way[problem]


def stepwise(live, problem, scored):
    for _ in range(ROUNDS):
        yield [Expand((), tuple(range(LINES)), 1)]
        if scored:
            yield [Score((1,))] * LINES
    live.over(problem)
    return problem


def run(live, scored, most):
    searches = [of_problem(i, stepwise(live, i, scored)) for i in range(20)]
    return list(flow(searches, live, lambda asked: [0.5] * len(asked), enough=48, most=most))


@pytest.mark.parametrize("scored", [False, True])
def test_searches_hold_no_more_than_there_is_room_for(scored):
    live, free = Ending(), Ending()
    assert sorted(run(live, scored, 32)) == sorted(run(free, scored, 0)) == list(range(20))
    assert live.held == 32 < 48 <= free.held


def test_what_is_not_held_takes_no_room():
    live = Ending()

    def whole(problem):
        ((one, *_),) = yield [Expand((), tuple(range(LINES)), 0)]
        live.over(problem)
        return one

    searches = [of_problem(i, whole(i)) for i in range(20)]
    found = list(flow(searches, live, lambda asked: [], enough=48, most=8))
    assert len(found) == 20 and live.held >= 48 and live.busy == 4 * live.polls == 20 * LINES

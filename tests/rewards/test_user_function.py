"""Functions of the user's: what they get by name, coroutines, time limits, and the one line where they fail."""

import asyncio
import functools
import itertools
import math
import re
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from stepjax.config import StreamOptions
from stepjax.errors import UserError
from stepjax.rewards import time_limit
from stepjax.rewards.hosted import FunctionReward, find_function
from stepjax.rewards.time_limit import TimeIsUp, limited
from stepjax.rewards.user_function import arguments, call

GIVEN = {
    **{"level": [1, 2, 3], "prompts": ["p", "q", "r"], "responses": ["a", "", "b"], "steps": [["a"], [], ["b"]]},
    **{"answers": ["1", "2", "3"], "finished": [True, False, True]},
}
HERE = Path(__file__)


def line_of(text: str) -> int:
    """The line of this file that ends in a comment."""
    return next(i for i, line in enumerate(HERE.read_text().splitlines(), 1) if line.endswith(f"# {text}"))


class Scorer:
    def __call__(self, responses, level):
        return [responses, level]


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (lambda prompts, responses, steps: 0, ["prompts", "responses", "steps"]),
        (lambda steps, answers: 0, ["steps", "answers"]),
        (lambda *, finished, level: 0, ["finished", "level"]),
        (lambda responses, threshold=0.5: 0, ["responses"]),
        (lambda responses, level=None: 0, ["responses", "level"]),
        (lambda **more: 0, list(GIVEN)),
        (lambda answers, **more: 0, list(GIVEN)),
        (Scorer(), ["responses", "level"]),
        (functools.partial(lambda weight, responses: 0, 2.0), ["responses"]),
    ],
)
def test_a_function_gets_by_name_what_it_asks_for(function, wanted):
    assert arguments(function, GIVEN, "here") == ([], {name: GIVEN[name] for name in wanted})


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b, c: 0,
        lambda prompts, completions, pieces: 0,
        lambda a, b, c, scale=2.0: 0,
        lambda *all: 0,
        lambda prompts, responses, steps, /: 0,
        zip,  # without a signature
    ],
)
def test_old_signatures_get_three_lists_in_order(function):
    first = [GIVEN["prompts"], GIVEN["responses"], GIVEN["steps"]]
    assert arguments(function, GIVEN, "here") == (first, {})


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda responses, answer: 0, r"asks for 'answer' \(did you mean 'answers'\?\)"),
        (lambda a, b: 0, "asks for 'a'"),
        (lambda a, b, c, d: 0, "asks for 'a'"),
        (lambda *, difficulty: 0, "asks for 'difficulty'"),
        (lambda: 0, "takes none of them"),
    ],
)
def test_what_is_not_known_is_refused_with_what_is(function, said):
    with pytest.raises(UserError, match=f"^here {said}.*by name any of level, prompts, responses, steps, answers"):
        arguments(function, GIVEN, "here")


async def slow_scores(responses):
    await asyncio.sleep(0.001)
    return [float(len(r)) for r in await asyncio.gather(*(one(r) for r in responses))]


async def one(response):
    await asyncio.sleep(0)
    return response


def test_coroutines_are_awaited_and_iterators_are_read():
    assert call(slow_scores, GIVEN, "here", seconds=10.0) == call(slow_scores, GIVEN, "here") == [1.0, 0.0, 1.0]
    assert call(lambda responses: (len(r) for r in responses), GIVEN, "here") == [1, 0, 1]
    assert call(lambda responses: map(len, responses), GIVEN, "here") == [1, 0, 1]
    assert call(lambda responses: itertools.repeat(0.0), GIVEN, "here") == [0.0] * 4  # one too many, not all of them

    async def in_a_notebook():
        return call(slow_scores, GIVEN, "here")

    assert asyncio.run(in_a_notebook()) == [1.0, 0.0, 1.0]


def raising(responses, level):
    return [math.log(number - 2) if number == 2 else 0.0 for number in level]  # raises


async def raising_later(responses, level):
    await asyncio.sleep(0)
    return raising(responses, level)


def lazy(responses, level):
    for number in level:
        yield raising([], [number])[0]


def together(responses):
    if len(responses) > 1:
        raise RuntimeError("only alone\nplease")  # together
    return [0.0]


def leaves(responses):
    raise SystemExit(3)  # leaves


@pytest.mark.parametrize("function", [raising, raising_later, lazy])
@pytest.mark.parametrize("seconds", [0.0, 30.0])
def test_an_exception_is_one_line_with_its_place_and_its_response(function, seconds):
    with pytest.raises(UserError) as error:
        call(function, GIVEN, "here", seconds=seconds)
    place = re.escape(f"({HERE}:{line_of('raises')}), for response 1")
    assert re.fullmatch(rf"here raised ValueError: [^\n]+ {place}", str(error.value)), str(error.value)


def test_where_no_response_alone_makes_it_fail_none_is_named():
    with pytest.raises(UserError) as error:
        call(together, GIVEN, "here")
    assert str(error.value) == f"here raised RuntimeError: only alone please ({HERE}:{line_of('together')})"
    with pytest.raises(UserError, match=rf"raised SystemExit: 3 .*:{line_of('leaves')}\), for response 0"):
        call(leaves, GIVEN, "here")


def endless(responses):
    while True:
        try:
            while responses:
                pass  # endless
        except Exception:
            continue


def sleeping(responses):
    time.sleep(60)  # sleeping


async def waiting(responses):
    await asyncio.sleep(60)


@pytest.mark.parametrize(("function", "line"), [(endless, "endless"), (sleeping, "sleeping"), (waiting, "")])
def test_what_takes_too_long_is_ended_where_it_is(function, line):
    began, before = time.monotonic(), threading.active_count()
    with pytest.raises(UserError) as error:
        call(function, GIVEN, "here", seconds=0.2)
    assert time.monotonic() - began < 10 and threading.active_count() == before
    assert str(error.value).startswith("here took longer than 0.2 s for 3 responses")
    places = {line_of(line), line_of(line) - 1} if line else {""}
    assert not line or any(f"({HERE}:{place});" in str(error.value) for place in places), str(error.value)


def test_a_limit_holds_in_another_thread_too():
    found = []

    def work():
        try:
            found.append(limited(lambda: 7, 10.0))
            limited(lambda: time.sleep(5), 0.05)
        except TimeIsUp as late:
            found.append(late.places)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    assert found[0] == 7 and any(name == str(HERE) for name, _ in found[1])
    with pytest.raises(KeyError):
        limited(lambda: {}["x"], 10.0)


def test_a_limit_that_is_reached_as_the_call_returns_leaves_nothing_behind(monkeypatch):
    """No later signal may raise in code that has nothing to do with the call."""

    class Interrupted(threading.Event):
        first = True

        def set(self):
            if self.first:
                self.first = False
                time.sleep(0.05)
                signal.raise_signal(signal.SIGVTALRM)
            super().set()

    known = ("Thread", "current_thread", "main_thread", "get_ident")
    double = SimpleNamespace(Event=Interrupted, **{name: getattr(threading, name) for name in known})
    before, threads = signal.getsignal(signal.SIGVTALRM), threading.active_count()
    monkeypatch.setattr(time_limit, "threading", double)
    with pytest.raises(TimeIsUp):
        limited(lambda: 7, 0.05)
    assert signal.getsignal(signal.SIGVTALRM) == before and threading.active_count() == threads


def test_a_column_may_have_any_name(tmp_path, monkeypatch):
    (tmp_path / "odd_rewards.py").write_text("def every(**given):\n    return [float(x) for x in given['self']]\n")
    (tmp_path / "late_rewards.py").write_text("import math\n\nNUMBER = math.log(0)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    reward = FunctionReward(StreamOptions(signal="function", function="odd_rewards:every"), "here")
    found = reward(["p"], ["r"], [["s"]], **{"self": [2], "steps ": [1]})
    assert [r.tolist() for r in found] == [2.0]
    with pytest.raises(UserError, match=r"late_rewards cannot be imported \(ValueError: .*late_rewards\.py:3\)"):
        find_function("late_rewards:f", "here")

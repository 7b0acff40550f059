"""Countdown: the solver against plain recursion, the verifier by hand, demonstrations as noisy as asked for."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepjax.errors import UserError
from stepjax.tasks.base import Problem
from stepjax.tasks.countdown import Countdown, CountdownConfig, CountdownReader
from stepjax.tasks.countdown.puzzle import parse_puzzle
from stepjax.tasks.countdown.solver import Rules, chance, ends, hand_of, moves

RULES = Rules("+-*", 10)
PUZZLE = Problem("test/0", "a=3;b=5;c=8;?4\n", "4")  # 8 - (3 + 5) = 0; (5 - 3) * … ; 8*(3+5) = 4
NOISELESS = {"false": 0.0, "restate": 0.0, "wander": 0.0}
configs = st.builds(
    CountdownConfig,
    modulus=st.integers(2, 100),
    numbers=st.sampled_from([(2, 2), (2, 4), (3, 3), (4, 5)]),
    operators=st.sampled_from(["+", "-", "+-", "+-*"]),
    noisy=st.floats(0, 1),
    false=st.floats(0, 1),
    restate=st.floats(0, 1),
    wander=st.floats(0, 1),
    stuck=st.floats(0, 1),
    shuffled_names=st.booleans(),
    seed=st.integers(0, 2**31 - 1),
)
OPERATIONS = {"+": lambda x, y: x + y, "-": lambda x, y: x - y, "*": lambda x, y: x * y}


def every_end(values: list[int], operators: str, modulus: int) -> list[int]:
    """The last values of all games, however often they occur: each ordered pair, each operator."""
    if len(values) == 1:
        return values
    found = []
    for i, j in itertools.permutations(range(len(values)), 2):
        rest = [value for k, value in enumerate(values) if k not in (i, j)]
        for operator in operators:
            found += every_end([*rest, OPERATIONS[operator](values[i], values[j]) % modulus], operators, modulus)
    return found


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=4), st.sampled_from(["+", "-", "+-", "*-", "+-*"]))
def test_what_can_be_made_is_what_plain_recursion_finds(values, operators):
    assert ends(hand_of(values), Rules(operators, 13)) == set(every_end(values, operators, 13))


def test_the_value_of_a_state_is_the_chance_of_a_random_writer():
    rng, hand = random.Random(0), hand_of([3, 5, 8, 2])
    hits = dict.fromkeys(range(10), 0)
    for _ in range(20_000):
        now = hand
        while len(now) > 1:
            now = rng.choice(moves(now, RULES)).rest
        hits[now[0]] += 1
    exact = {target: chance(hand, target, RULES) for target in hits}
    assert sum(exact.values()) == pytest.approx(1.0)
    for target, count in hits.items():  # four standard errors
        assert count / 20_000 == pytest.approx(exact[target], abs=4 * (exact[target] / 20_000) ** 0.5)


def test_a_move_is_named_once():
    assert [(m.left, m.operator, m.right, m.value) for m in moves((3, 3), RULES)] == [
        (3, "+", 3, 6), (3, "-", 3, 0), (3, "*", 3, 9)
    ]  # fmt: skip
    assert {(m.left, m.operator, m.right) for m in moves((2, 5), RULES)} == {
        (2, "+", 5), (2, "-", 5), (2, "*", 5), (5, "-", 2)
    }  # fmt: skip


RATED = {
    "right": (["d=3+5=8", "e=8*8=4", "?4"], [1, 1, 1], "derive derive answer"),
    "either order": (["d=5+3=8", "e=8*8=4", "?4"], [1, 1, 1], "derive derive answer"),
    "out of reach and back": (
        ["d=3*5=5", "!d", "d=3+5=8", "e=8*8=4", "?4"], [0, 1, 1, 1, 1], "dead end,back,derive,derive,answer"
    ),
    "the same dead end again": (
        ["d=3*5=5", "!d", "e=5*3=5", "!e", "d=3+5=8"], [0, 1, -1, 1, 1], "dead end,back,dead end,back,derive"
    ),
    "further into it": (["d=3*5=5", "e=8+5=3", "!d", "d=3+5=8"], [0, 0, 1, 1], "dead end,dead end,back,derive"),
    "back within it": (["d=3*5=5", "e=8+5=3", "!e", "!d"], [0, 0, 0, 1], "dead end,dead end,back,back"),
    "needless": (["d=3+5=8", "!d", "d=3+5=8", "e=8*8=4"], [1, 0, 0, 1], "derive needless repeat derive"),
    "false": (["d=3+5=9", "e=8*9=2", "?4"], [-1, -1, -1], "derive,derive,leap"),
    "false, taken back": (["d=3+5=9", "!d", "d=3+5=8", "e=8*8=4"], [-1, 1, 1, 1], "derive back derive derive"),
    "a number taken twice": (["d=3+5=8", "e=3*8=4"], [1, -1], "derive jump"),
    "a number that is not there": (["d=3+4=7"], [-1], "jump"),
    "a name that is taken": (["a=3+5=8", "d=3+5=8", "d=8*8=4"], [-1, 1, -1], "jump derive jump"),
    "nothing to take back": (["!d", "!a"], [-1, -1], "back back"),
    "restated": (["a=3", "d=3+5=8", "d=8", "a=3", "d=9"], [0, 1, 0, -1, -1], "restate,derive,restate,leap,leap"),
    "numbers left over": (["d=3+5=8", "?4"], [1, -1], "derive leap"),
    "another value": (["d=8-3=5", "e=5+5=0", "?0"], [0, 0, -1], "dead end,dead end,answer"),
    "after the answer": (["d=3+5=8", "e=8*8=4", "?4", "?4"], [1, 1, 1, -1], "derive derive answer after"),
    "malformed": (["d=3/5=8", "!d=3+5=8", "", "d = 3+5=8"], [-1] * 4, "malformed " * 4),
}  # fmt: skip


@pytest.mark.parametrize("name", RATED)
def test_steps_are_rated(name):
    steps, ratings, kinds = RATED[name]
    found = Countdown().rate_steps(PUZZLE, steps)
    assert [step.rating for step in found] == ratings
    assert [step.kind for step in found] == (kinds.split(",") if "," in kinds else kinds.split())
    assert [step.correct for step in found] == [rating >= 0 for rating in ratings]


def tour(task: Countdown, problem: Problem) -> list[str]:
    """Every first move made and taken back, those that lead nowhere too, then the shortest solution."""
    reader, lines = task.reader(problem), []
    for move in moves(reader.hand, reader.rules):
        lines += [f"z={move.left}{move.operator}{move.right}={move.value}", "!z"]
    return [*lines, *task.clean_solution(problem).split("\n")]


@pytest.mark.parametrize("rating", ["global", "local"])
def test_going_back_and_forth_earns_nothing_but_for_dead_ends_once(rating):
    task = Countdown(CountdownConfig(shuffled_names=False), rating)
    for problem in task.problems("test")[:50]:
        steps = tour(task, problem)
        twice = [*steps[: -problem_length(problem)], *steps]
        earned = [sum(step.rating for step in task.rate_steps(problem, way)) for way in (steps, twice)]
        dead = {step.kind for step in task.rate_steps(problem, steps)} & {"dead end"}
        kinds = [step.kind for step in task.rate_steps(problem, steps)]
        distinct = len(set(dead_hands(task, problem)))
        assert earned[0] == problem_length(problem) + distinct and (distinct > 0) == bool(dead)
        assert earned[1] <= earned[0], "a second tour earns no more"
        assert kinds[-1] == "answer"


def problem_length(problem: Problem) -> int:
    """Lines of the shortest solution."""
    return len(parse_puzzle(problem.prompt, 10).numbers)


def dead_hands(task: Countdown, problem: Problem) -> list[tuple[int, ...]]:
    """States after one move from which the target is out of reach."""
    reader = task.reader(problem)
    target = int(problem.answer)
    return [m.rest for m in moves(reader.hand, reader.rules) if target not in ends(m.rest, reader.rules)]


def test_a_dead_end_beside_a_false_value_is_left_once_too():
    steps = ["d=3+5=6", "e=6*8=8", "!e", "e=6*8=8"]
    assert [s.rating for s in Countdown(rating="local").rate_steps(PUZZLE, steps)][1::2] == [0, -1]


def test_what_the_examples_say_of_their_puzzle():
    assert 4 in ends((8, 8), RULES) and 4 not in ends((5, 8), RULES)
    assert 4 in ends((3, 5, 8), RULES)


def test_a_local_rating_goes_on_from_what_was_stated():
    steps = ["d=3+5=9", "e=8*9=2", "?2"]
    puzzle = Problem("test/1", "a=3;b=5;c=8;?2\n", "2")
    found = Countdown(rating="local").rate_steps(puzzle, steps)
    assert [(step.local, step.true, step.rating) for step in found] == [
        (False, False, -1), (True, False, 1), (True, False, 1)
    ]  # fmt: skip
    assert [step.rating for step in Countdown().rate_steps(puzzle, steps)] == [-1, -1, -1]
    assert not Countdown(rating="local").grade(puzzle, "\n".join(steps))


@pytest.mark.parametrize(("rating", "first"), [("good", 1), ("neutral", 0), ("bad", -1)])
def test_dead_ends_are_rated_as_asked(rating, first):
    task = Countdown(CountdownConfig(dead_end=rating))
    assert [step.rating for step in task.rate_steps(PUZZLE, ["d=3*5=5", "!d", "d=3*5=5"])] == [first, 1, -1]


@pytest.mark.parametrize(
    ("response", "right"),
    [
        ("d=3+5=8\ne=8*8=4\n?4", True),
        ("\nd=3*5=5\n!d\nd=3+5=8\n\ne=8*8=4\n?4\n", True),
        ("d=3+5=9\ne=8*8=4\n?4", False),
        ("?4", False),
        ("d=3+5=8\n?4", False),
        ("d=3+5=8\ne=8*8=4\n?4\n?4", False),
        ("?4\nd=3+5=8\ne=8*8=4\n?4", False),
        ("d=3+5=8\ne=8*8=4", False),
        ("", False),
    ],
)
def test_an_answer_counts_only_where_all_numbers_became_it(response, right):
    assert Countdown().grade(PUZZLE, response) is right


def test_votes():
    responses = ["d=3+5=8\n?4", "?4", "x\n?0", "?4\n?4", "", "?4\nd=3+5=8"]
    assert Countdown().group_answers(responses) == [4, 4, 0, -1, -1, -1]


@settings(max_examples=60, deadline=None)
@given(configs, st.integers(0, 99), st.sampled_from(["train", "test"]))
def test_any_problem_can_be_solved(config, index, split):
    task = Countdown(config)
    try:
        problem = task.problems(split)[index]
    except UserError as error:
        assert "too few puzzles" in str(error)
        return
    puzzle = parse_puzzle(problem.prompt, config.modulus)
    assert str(puzzle) == problem.prompt and problem.prompt.endswith(f";?{problem.answer}\n")
    clean = task.clean_solution(problem).split("\n")
    assert task.grade(problem, "\n".join(clean)) and len(clean) == len(puzzle.numbers)
    assert [step.rating for step in task.rate_steps(problem, clean)] == [1] * len(clean)
    assert "malformed" not in {step.kind for step in task.rate_steps(problem, problem.solution.split("\n"))}
    assert task.problems(split)[index] == problem


def kinds_of(**noise) -> list[list[str]]:
    task = Countdown(CountdownConfig(**{**NOISELESS, **noise}))
    some = task.problems("train")[:200]
    return [[step.kind for step in task.rate_steps(p, p.solution.split("\n"))] for p in some]


def test_noise_is_as_asked_for():
    assert {kind for kinds in kinds_of() for kind in kinds} == {"derive", "answer"}
    back = kinds_of(wander=1.0, stuck=0.0)
    assert {"dead end", "back"} <= {kind for kinds in back for kind in kinds} and all(k[-1] == "answer" for k in back)
    stuck = kinds_of(wander=1.0, stuck=1.0)
    assert "back" not in {kind for kinds in stuck for kind in kinds}
    task = Countdown(CountdownConfig(**{**NOISELESS, "wander": 1.0, "stuck": 1.0}))
    some = task.problems("train")[:200]
    reached = [p for p, kinds in zip(some, stuck, strict=True) if "dead end" not in kinds]
    assert [p for p in some if task.grade(p, p.solution)] == reached
    wrong = Countdown(CountdownConfig(**{**NOISELESS, "false": 1.0}))
    assert not any(wrong.grade(p, p.solution) for p in wrong.problems("train")[:100])


def test_no_puzzle_is_in_two_splits():
    task = Countdown()
    parts = [
        {(*sorted(p.numbers.values()), p.target) for p in map(_puzzle, task.problems(split)[:400])}
        for split in ("train", "valid", "test")
    ]
    assert all(not (x & y) for x, y in itertools.combinations(parts, 2)) and min(map(len, parts)) > 100


def _puzzle(problem):
    return parse_puzzle(problem.prompt, 10)


def test_figures_of_walks():
    ways = [
        ["d=3*5=5", "!d", "d=3+5=8", "e=8*8=4", "?4"],  # a dead end, left
        ["d=3*5=5", "e=8+5=3", "?3"],  # two that were not
        ["d=3+5=9", "!d", "d=3+5=8", "!d"],  # a false value and a right move taken back
        ["d=3+5=9", "e=8*9=2", "?2"],  # false, and what rests on it
    ]
    found = Countdown().measures([PUZZLE] * 4, ways)
    assert found == {"recovery": 1 / 3, "false_repairs": 1 / 3, "tries": 3 / 4, "dead_ends_left": 1 / 3}
    assert Countdown().measures([PUZZLE], [["?4"]]) == {"tries": 0.0}


def test_edits():
    task, steps = Countdown(), ["d=3+5=8", "e=8*8=4", "?4"]
    edits = {
        "fix": (task.break_and_fix(PUZZLE, steps), [-1, 1, 1, 1, 1]),
        "undo": (task.take_back(PUZZLE, steps), [1, 0, 0, 1, 1]),
        "detour": (task.detour(PUZZLE, steps), [0, 1, 1, 1, 1]),
    }
    for edited, ratings in edits.values():
        assert [step.rating for step in task.rate_steps(PUZZLE, edited)] == ratings
        assert task.grade(PUZZLE, "\n".join(edited))
    assert task.break_and_fix(PUZZLE, ["?4"]) is task.take_back(PUZZLE, ["?4"]) is None
    easy = Problem("test/2", "a=1;b=0;?1\n", "1")
    assert Countdown(CountdownConfig(operators="+")).detour(easy, ["c=1+0=1", "?1"]) is None


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text("abde=3588*+-!?4\n", max_size=9), max_size=6))
def test_any_text_is_read(steps):
    found = Countdown().rate_steps(PUZZLE, steps)
    assert len(found) == len(steps) and all(step.rating in (-1, 0, 1) for step in found)
    reader = CountdownReader(parse_puzzle(PUZZLE.prompt, 10), RULES)
    for step in steps:
        reader.read(step)
        assert len(reader.items) + len(reader.path) == 3  # each move makes one of two


@pytest.mark.parametrize("prompt", ["a=3;?4", "a=3;a=5;?4", "a=3;b=12;?4", "a=3;b=5;?b", "a=3;b=5", "x" * 99, ""])
def test_other_prompts_are_refused(prompt):
    with pytest.raises(UserError, match=r"countdown: .*prompt"):
        parse_puzzle(prompt, 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"numbers": (1, 3)}, "numbers must be 2 or more"),
        ({"numbers": (4, 3)}, "the fewest first"),
        ({"numbers": (2, 7)}, "at most 6"),
        ({"operators": "/"}, "operators must be"),
        ({"modulus": 1}, "modulus"),
        ({"false": 1.5}, "false"),
        ({"dead_end": "fine"}, "dead_end"),
    ],
)
def test_options_out_of_bounds_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        CountdownConfig(**options)

"""RegisterChain with forks: dead ends that must be left, against a judge that tries all ways, and exhaustively."""

import itertools
import zlib
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tasks.register_programs import reference_values
from tasks.test_register_chain import canonical
from tasks.walk_judge import WalkJudge

from stepjax.errors import UserError
from stepjax.tasks.base import Problem
from stepjax.tasks.register_chain import RegisterChain, RegisterChainConfig
from stepjax.tasks.register_chain.program import parse_program
from stepjax.tasks.register_chain.tokenizer import ALPHABET
from stepjax.tasks.register_chain.walk import dead_ends, way_to_query

QUIET = {"false": 0.0, "restate": 0.0, "leap": 0.0, "repair": 0.0, "wander": 0.0}
FORKED = RegisterChainConfig(forks=(1, 2), **QUIET)
MAZE = Problem("x", "a=7;b=a+5;c=a-2;d=c*3;e=b*2;?e\n", "4")  # b = 2, e = 4; c = 5 and d = 5 lead nowhere
configs = st.builds(
    RegisterChainConfig,
    modulus=st.integers(5, 100),
    operations=st.sampled_from([(1, 2), (2, 3), (3, 6)]),
    distractors=st.sampled_from([(0, 0), (0, 2)]),
    forks=st.sampled_from([(1, 1), (0, 2), (2, 3)]),
    fork_steps=st.sampled_from([(1, 1), (1, 3)]),
    wander=st.floats(0, 1),
    stuck=st.floats(0, 1),
    retry=st.sampled_from([0.0, 0.5]),
    false=st.floats(0, 1),
    leap=st.floats(0, 0.3),
    rating=st.sampled_from(["global", "local"]),
    seed=st.integers(0, 2**31 - 1),
)


def walked(response: str, problem: Problem = MAZE, **options: object) -> str:
    rated = RegisterChain(replace(FORKED, **options)).rate_steps(problem, response.split("\n"))
    return " ".join(j.kind.replace(" ", "-") + "-0+"[j.rating + 1] for j in rated)


@settings(max_examples=60, deadline=None)
@given(configs, st.integers(0, 1999))
def test_any_problem_has_one_way_and_its_clean_solution_is_good_throughout(config, index):
    task = RegisterChain(config)
    problem = task.problems("train")[index]
    values, query = reference_values(problem.prompt, config.modulus)
    assert problem.answer == str(values[query]) and set(problem.prompt + problem.solution) <= set(ALPHABET)
    program = parse_program(problem.prompt, config.modulus)
    way = way_to_query(program)
    assert config.operations[0] <= len(way) <= config.operations[1] and way[-1].register == query
    assert config.forks[0] <= len(dead_ends(program)) <= config.forks[1] + config.distractors[1]
    clean = task.clean_solution(problem)
    assert task.grade(problem, clean)
    assert [j.rating for j in task.rate_steps(problem, clean.split("\n"))] == [1] * (len(way) + 1)
    for edited, right in ((task.take_back, True), (task.detour, True), (task.break_and_fix, True)):
        steps = edited(problem, clean.split("\n"))
        assert steps is None or task.grade(problem, "\n".join(steps)) is right
    assert (task.detour(problem, clean.split("\n")) is None) == (not dead_ends(program))


@settings(max_examples=150, deadline=None)
@given(configs, st.integers(0, 300), st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=14))
def test_ratings_are_those_of_a_judge_that_tries_all_ways(config, index, moves):
    task = RegisterChain(config)
    problem = task.problems("test")[index]
    judge = WalkJudge(problem.prompt, config.modulus)
    steps, expected = [], []
    for forwards, number in moves:
        likely = [r for r in judge.sources if judge.may(judge.path, r)] or list(judge.sources)
        among = (likely if number % 4 else list(judge.sources)) if forwards else judge.path or list(judge.sources)
        register = among[number % len(among)]
        steps.append(judge.line(register) if forwards else f"!{register}")
        expected.append(judge.derive(register) if forwards else judge.back(register))
    value = judge.values[judge.query]
    steps.append(f"?{value}")
    expected.append(judge.answer(value))
    assert [j.rating for j in task.rate_steps(problem, steps)] == expected
    assert task.grade(problem, "\n".join(steps)) == (expected[-1] == 1)


def test_no_response_that_stays_in_a_dead_end_is_right():
    """All responses of up to four moves, repairs and bare values among them, and then the right answer."""
    task, judge = RegisterChain(FORKED), WalkJudge(MAZE.prompt, 10)
    lines = [judge.line(r) for r in "bcde"]
    moves = [*lines, *(f"!{line}" for line in lines), *("!b", "!c", "!d"), "e=4", "c=5"]
    right = 0
    for count in range(5):
        for steps in itertools.product(moves, repeat=count):
            path: list[str] = []
            for step in steps:
                if step in lines and step[0] not in path and judge.may(path, step[0]):
                    path.append(step[0])
                elif len(step) == 2 and step[1] in path:
                    del path[path.index(step[1]) :]
            graded = task.grade(MAZE, "\n".join([*steps, "?4"]))
            assert graded == (path == ["b", "e"]), steps
            right += graded
    assert right > 20


@pytest.mark.parametrize(
    ("response", "told"),
    [
        ("b=7+5=2\ne=2*2=4\n?4", "derive+ derive+ answer+"),
        ("c=7-2=5\nd=5*3=5\n!c\nb=7+5=2\ne=2*2=4\n?4", "dead-end0 dead-end0 back+ derive+ derive+ answer+"),
        # one step back at a time; going in again after it was left
        ("c=7-2=5\nd=5*3=5\n!d\n!c\nc=7-2=5", "dead-end0 dead-end0 back+ back+ dead-end-"),
        # the way on is no move from where the walk is; nor is an answer
        ("c=7-2=5\nb=7+5=2\ne=2*2=4\n?4", "dead-end0 jump- jump- leap-"),
        ("b=7+5=2\n!b\nb=7+5=2\ne=2*2=4\n?4", "derive+ needless0 repeat0 derive+ answer+"),
        # a false value on the way: put right in its place, or taken back
        ("b=7+5=3\n!b=7+5=2\ne=2*2=4\n?4", "derive- repair+ derive+ answer+"),
        ("b=7+5=3\n!b\nb=7+5=2\ne=2*2=4\n?4", "derive- back+ derive+ derive+ answer+"),
        # a false value in a dead end; what is not on the path can be neither repaired nor taken back
        ("c=7-2=6\n!c\n!c\n!e=2*2=4\n?4", "dead-end- back+ back- repair- leap-"),
        ("b=2\ne=2*2=4\n?4", "leap- jump- leap-"),
        ("b=7+5=2\nb=2\na=7\nb=7+5=2\nb=7+5=3", "derive+ restate0 restate0 repeat0 jump-"),
        ("x=1+1=2\n!x\nso\n!b ?\n?4\n!b", "derive- back- malformed- malformed- leap- after-"),
    ],
)
def test_walks_case_by_case(response, told):
    assert walked(response) == told


@pytest.mark.parametrize(("dead_end", "mark"), [("good", "+"), ("neutral", "0"), ("bad", "-")])
def test_the_rating_of_a_dead_end_is_an_option_and_going_in_again_is_bad(dead_end, mark):
    told = walked("c=7-2=5\n!c\nc=7-2=5\n!c\nc=7-2=4", dead_end=dead_end)
    assert told == f"dead-end{mark} back+ dead-end- back+ dead-end-"


def test_a_value_that_follows_from_a_false_one_is_needless_to_take_back_by_the_local_rating():
    response = "b=7+5=3\ne=3*2=6\n!e"
    assert walked(response).endswith("derive- back+") and walked(response, rating="local").endswith("needless0")


def test_demonstrations_enter_dead_ends_and_leave_them():
    task = RegisterChain(replace(FORKED, wander=0.5, stuck=0.2))
    kinds: Counter[str] = Counter()
    problems = task.problems("train")[:1000]
    right = sum(task.grade(p, p.solution) for p in problems)
    for problem in problems:
        kinds.update(f"{j.kind}{j.rating}" for j in task.rate_steps(problem, problem.solution.split("\n")))
    assert {"derive1", "dead end0", "back1", "answer1", "leap-1"} == set(kinds)
    assert kinds["leap-1"] == 1000 - right > 80, "who stays in a dead end answers from there"
    figures = task.measures(problems, [p.solution.split("\n") for p in problems])
    assert figures["dead_ends_left"] == pytest.approx(0.8, abs=0.04) and 0.3 < figures["dead_ends"] < 0.6
    assert figures["false_repairs"] == 0.0 and "recovery" not in figures


def test_splits_never_meet_and_problems_stay_the_same():
    task = RegisterChain(replace(FORKED, operations=(2, 2), operators="+-"))
    train = {canonical(p.prompt) for p in task.problems("train")[:3000]}
    test = {canonical(p.prompt) for p in task.problems("test")[:800]}
    valid = {canonical(p.prompt) for p in task.problems("valid")[:800]}
    assert len(train) > 2000 and not train & test and not train & valid and not test & valid
    some = RegisterChain(replace(FORKED, forks=(1, 3), wander=0.4, false=0.1)).problems("train")[:300]
    assert zlib.crc32("\n".join(f"{p.prompt}{p.solution}" for p in some).encode()) == 1075914476


def test_a_program_whose_query_cannot_be_reached_is_refused():
    with pytest.raises(UserError, match=r"^register_chain: no way to d in the prompt: d=b\+c needs c=a\+2$"):
        RegisterChain(FORKED).rate_steps(Problem("x", "a=7;b=a+5;c=a+2;d=b+c;?d\n", "1"), [])
    for options, name in (({"forks": (2, 1)}, "forks"), ({"forks": (9, 9), "fork_steps": (3, 3)}, "forks=")):
        with pytest.raises(UserError, match=rf"^register_chain: {name}[^\n]*$"):
            RegisterChainConfig(**options)

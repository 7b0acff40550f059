"""Responses on the host: batches of one size, ratings at the right tokens, figures worked out by hand."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from models.tiny import policy

from stepjax.config import Config
from stepjax.data.framing import Framing
from stepjax.parallel import make_mesh
from stepjax.rewards.by_token import by_token
from stepjax.rollout.program import RolloutShape
from stepjax.rollout.sampling import Sampler
from stepjax.runs.response_figures import SeparatorWatch, measure
from stepjax.runs.response_sampling import ResponseSampler
from stepjax.runs.responses import Response, exact_ratings, limit_kept, read_response, read_responses
from stepjax.tasks.base import Problem, StepRating
from stepjax.tasks.encoding import Prompts
from stepjax.trajectory import Trajectory

PROBLEM = Problem("test/0", "p", "1")
GOOD, NEUTRAL, BAD = (
    StepRating(r, c, k) for r, c, k in ((1, True, "derive"), (0, True, "note"), (-1, False, "derive"))
)


def response(steps: list[str], step_ratings: list[StepRating] | None, *, correct=False, finished=True, tokens=4):
    return Response(PROBLEM, [5], [7] * tokens, "\n".join(steps), steps, finished, correct, step_ratings)


def test_ratings_stand_at_the_ends_of_steps():
    index = np.array(
        [
            [-1, 0, 0, 1, 1],  # two steps
            [-1, 0, 2, 2, -1],  # step 1 has no token of its own
            [-1, 0, 0, 1, 1],  # truncated inside of step 1: rated all the same, and not counted on the device
            [-1, 0, -1, -1, -1],  # white space alone: nothing to rate
            [-1, 0, 0, 1, 1],  # no verifier
        ]
    )
    end = np.array([[0, 0, 1, 0, 1], [0, 1, 0, 1, 0], [0, 0, 1, 0, 1], [0, 1, 0, 0, 0], [0, 0, 1, 0, 1]], bool)
    responses = [
        response(["a", "b"], [GOOD, BAD]),
        response(["a", "b", "c"], [BAD, NEUTRAL, GOOD]),
        response(["a", "b"], [NEUTRAL, GOOD], finished=False),
        response([], []),
        response(["a", "b"], None),
    ]
    ratings = by_token(exact_ratings(responses), index, end)
    assert ratings.dtype == np.float32
    assert ratings.tolist() == [[0, 0, 1, 0, -1], [0, -1, 0, 1, 0], [0, 0, 0, 0, 1], [0] * 5, [0] * 5]


def test_a_limit_is_kept_broken_or_still_open():
    limited = dataclasses.replace(PROBLEM, step_limit=2)
    cases = [(["a"], True, 1), (["a", "b"], True, 1), (["a", "b", "c"], True, -1), (["a", "b", "c"], False, -1)]
    cases += [(["a"], False, 0), ([], True, 1)]
    responses = [dataclasses.replace(response(steps, None, finished=f), problem=limited) for steps, f, _ in cases]
    assert [limit_kept(r) for r in responses] == [kept for *_, kept in cases]
    assert measure(responses)["limit_kept"] == 0.5
    assert limit_kept(response(["a"], None)) == 0 and "limit_kept" not in measure([response(["a"], None)])


def test_figures_by_hand():
    responses = [
        response(["a", "b", "a "], [GOOD, NEUTRAL, BAD], correct=True, tokens=6),  # right by luck; "a" twice
        response(["a", "c"], [GOOD, GOOD], correct=True, tokens=3),
        response(["a"], [BAD], tokens=2),  # a wrong answer is no trace error
        response(["d", "d", "d", "e"], [NEUTRAL, BAD, BAD, GOOD], finished=False, tokens=5),
    ]
    assert measure(responses) == pytest.approx(
        {
            "accuracy": 2 / 4,
            "trace_error": 1 / 2,
            "good": 4 / 10,
            "neutral": 2 / 10,
            "bad": 4 / 10,
            "steps": 10 / 4,
            "tokens": 16 / 4,
            "truncated": 1 / 4,
            "repeated": 3 / 10,
        }
    )


def test_calculations_are_figures_of_their_own():
    holds, fails = StepRating(1, None, "calculation"), StepRating(-1, None, "calculation")
    text = StepRating(0, None, "text")
    found = measure(
        [response(["a", "b", "c"], [holds, fails, text], correct=True), response(["d", "e"], [holds, text])]
    )
    assert found["holds"] == pytest.approx(2 / 3) and found["calculation"] == pytest.approx(3 / 5)
    assert "trace_error" not in found, "whether a step is right is not known"
    assert "holds" not in measure([response(["a"], [GOOD])])
    notes = [response(["<<1=1>>", "<<2*3=6>> and <<5*1=5>>"], [holds, holds])]
    assert measure(notes)["trivial"] == pytest.approx(2 / 3)


def test_figures_where_little_is_known():
    unrated = measure([response(["a", "b"], None, correct=True), response(["a"], None)])
    assert unrated == {"accuracy": 0.5, "steps": 1.5, "tokens": 4.0, "truncated": 0.0, "repeated": 0.0}
    assert measure([response(["a"], [BAD])])["trace_error"] == 0.0, "no answer is right"
    assert set(measure([]).values()) == {0.0}


class Letters:
    """A tokenizer of one id a character, a = 10; 2 ends a text."""

    def decode(self, ids, skip_special_tokens):
        assert skip_special_tokens
        return "".join(chr(i - 10 + ord("a")) for i in ids if i >= 10)


class Task:
    def grade(self, problem, text):
        return text.endswith(problem.answer)

    def rate_steps(self, problem, steps):
        return [GOOD if step.startswith("a") else BAD for step in steps]


RUN = SimpleNamespace(
    config=Config(),
    tokenizer=Letters(),
    task=Task(),
    splitter=SimpleNamespace(
        separator="mn", texts=lambda ids: [Letters().decode(ids, True)[i : i + 2] for i in range(0, len(ids) - 1, 2)]
    ),
    policy=policy(),
    mesh=make_mesh(1, 1, 1),
    framing=Framing(Letters(), (), (2,)),
)


def test_a_response_is_read_and_rated():
    problem = dataclasses.replace(PROBLEM, answer="d")
    found = read_response(RUN, problem, [30], [10, 11, 12, 13, 2], True)
    assert (found.text, found.steps, found.correct) == ("abcd", ["ab", "cd"], True)
    assert found.step_ratings == [GOOD, BAD] and found.tokens == [10, 11, 12, 13, 2]
    cut = read_response(RUN, problem, [30], [10, 11, 12, 13], False)
    assert not cut.correct, "a truncated response has given no answer, whatever it looks like"
    assert not read_response(RUN, PROBLEM, [30], [10, 11, 2], True).correct


def test_a_trajectory_is_read_row_by_row():
    trajectory = Trajectory(
        tokens=np.array([[0, 31, 10, 2, 99], [30, 31, 10, 11, 12]], np.int32),
        prompt_length=np.array([1, 2], np.int32),
        response_length=np.array([2, 3], np.int32),
        finished=np.array([True, False]),
        logprobs=np.zeros((2, 5), np.float32),
        prompt_width=2,
    )
    first, second = read_responses(RUN, [PROBLEM, dataclasses.replace(PROBLEM, id="test/1")], trajectory)
    assert (first.prompt, first.tokens, first.finished) == ([31], [10, 2], True)
    assert (second.prompt, second.tokens, second.finished) == ([30, 31], [10, 11, 12], False)
    assert (first.problem.id, second.problem.id) == ("test/0", "test/1")


@pytest.mark.parametrize("count", [1, 4, 6, 8])
def test_any_number_of_prompts_in_batches_of_one_size(count, capsys):
    """Every prompt has one response, under its own key, however the last batch is filled up."""
    problems = [dataclasses.replace(PROBLEM, id=f"test/{i}") for i in range(8)]
    prompts = Prompts(problems, [[20 + i] for i in range(8)], 0)
    sampler = ResponseSampler(RUN, RolloutShape(4, 3, 2), Sampler(1.0))
    calls = []

    def program(params, tokens, lengths, key, queue):
        tokens, lengths = np.asarray(tokens)[queue.prompt], np.asarray(lengths)[queue.prompt]
        assert tokens.shape == (4, 3) and lengths.tolist() == [1] * 4 and params == "params"
        wanted = np.asarray(queue.limit) > 0
        calls.append(np.asarray(queue.id)[wanted].tolist())
        answers = np.stack([tokens[:, -1], np.full(4, 2)], axis=1)
        both = np.concatenate([tokens, answers], axis=1)
        return Trajectory(both, lengths, 2 * wanted, wanted, np.zeros((4, 5)), prompt_width=3), None

    sampler.program = program
    bar = SimpleNamespace(done=0)
    bar.advance = lambda n: setattr(bar, "done", bar.done + n)
    chosen = [7, 0, 3, 3, 1, 2, 6, 5][:count]
    found = sampler.many("params", prompts, chosen, jax.random.key(0), bar)
    assert [r.problem.id for r in found] == [f"test/{i}" for i in chosen]
    assert [r.tokens for r in found] == [[20 + i, 2] for i in chosen]
    assert calls == [list(range(first, min(first + 4, count))) for first in range(0, count, 4)]
    assert bar.done == count
    assert capsys.readouterr().out.count("holds the step separator 'mn'") == 1
    sampler.many("params", prompts, chosen, jax.random.key(0))
    assert not capsys.readouterr().out


def test_a_separator_that_no_response_holds_is_said_once(capsys):
    watch = SeparatorWatch("\n\n")
    blank, single = response(["a\r\n\r\n", "b"], None), response(["a\nb\n"], None)
    nothing = response([], None)
    assert watch([nothing, nothing]) == watch([]) == 0.0, "no text, no steps to miss"
    assert watch([blank, single, single, nothing]) == 0.25 and not capsys.readouterr().out
    assert watch([single, nothing], "PPO round 3: ") == 0.0
    told = "PPO round 3: none of the 2 responses holds the step separator '\\n\\n', so each is one step"
    assert capsys.readouterr().out.startswith(told)
    assert watch([single]) == 0.0 and not capsys.readouterr().out

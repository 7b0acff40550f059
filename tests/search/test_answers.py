"""Answers by a tiny run's policy: the tokens of a line do not depend on how they are asked for, nor on the devices."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from search.prefilled import PrefilledContinuations, ends_host

from stepjax.drive import drive
from stepjax.options import parse
from stepjax.parallel import only_asked_transfers
from stepjax.runs.opening import open_run
from stepjax.runs.response_sampling import first_prompts
from stepjax.runs.stages import policy_params
from stepjax.search.answers import Answers
from stepjax.search.ask import Asked, Cost, End, Expand, Forget, Score, of_problem
from stepjax.search.beam import Beams, beam_search, best_of
from stepjax.search.continuations import live_answers
from stepjax.search.explorer import Explorer
from stepjax.search.puct import Puct, puct_search
from stepjax.search.scorers import search_scorer
from stepjax.search.ties import KeyedTies
from stepjax.steps import StepSplitter

PROBLEMS, LINES = 3, 6


class Asking(Answers):
    """Answers all questions of a call together."""

    @property
    def cost(self) -> Cost:
        return sum(self.costs, Cost())

    def __call__(self, questions: Sequence[Asked]) -> list[Any]:
        answers: list[Any] = [None] * len(questions)
        scored, others = list[int](), list[int]()
        for i, asked in enumerate(questions):
            (scored if isinstance(asked.question, Score) else others).append(i)
        for i, answer in zip(others, self.continuations([questions[i] for i in others]), strict=True):
            answers[i] = answer
        for i, value in zip(scored, self.scores([questions[i] for i in scored]), strict=True):
            answers[i] = value
        return answers


@pytest.fixture(scope="module")
def answering(tiny, tmp_path_factory):
    """`make(mesh data, **options)`: answers of the tiny run's policy, and its run."""
    folder = tiny.copy(tmp_path_factory.mktemp("answers") / "run")

    @functools.cache
    def make(data: int = 1, rows: int = 8, prm: str = "uniform", live: bool = False):
        argv = [f"--config={tiny.config}", f"--workdir={folder}", f"--config.mesh.data={data}"]
        config, workdir = parse([*argv, f"--config.search.prm={prm}", f"--config.search.rows={rows}"])
        with open_run(config, workdir, kinds=()) as run:
            prompts = first_prompts(run, "test", PROBLEMS)
            scorer = search_scorer(run, config.search, stepwise=True)
            params, longest = policy_params(run, "sft"), run.config.ppo.max_new_tokens
            sizes = {"temperature": 1.0, "longest": longest, "rows": rows, "seed": 0}

            def answers():
                if live:
                    return Asking(prompts, live_answers(run, params, prompts.tokens, longest), scorer)
                return Asking(prompts, PrefilledContinuations(run, params, prompts.tokens, **sizes), scorer)

            return run, answers

    return make


def at_once(answers):
    """The response of each line, asked for in one go."""
    asked = [Asked(i, Expand((), tuple(range(LINES)), steps=0)) for i in range(PROBLEMS)]
    with only_asked_transfers():
        return answers(asked)


def step_by_step(answers, steps: int):
    """… a number of steps at a time, each line in a question of its own."""
    lines = {(i, n): ((), (), End.STEP) for i in range(PROBLEMS) for n in range(LINES)}
    while waiting := [name for name, (_, _, end) in lines.items() if end is End.STEP]:
        with only_asked_transfers():
            found = answers([Asked(i, Expand(lines[i, n][0], (n,), steps)) for i, n in waiting])
        for name, (one,) in zip(waiting, found, strict=True):
            tokens, logprobs, _ = lines[name]
            lines[name] = (*tokens, *one.tokens), (*logprobs, *one.logprobs), one.end
    return lines


@pytest.mark.parametrize("steps", [1, 2])
def test_step_by_step_gives_the_tokens_of_one_shot(answering, steps):
    run, make = answering()
    whole, lines = at_once(make()), step_by_step(make(), steps)
    ends = set()
    for (i, n), (tokens, logprobs, end) in lines.items():
        one = whole[i][n]
        assert tokens == one.tokens and end is one.end
        np.testing.assert_allclose(logprobs, one.logprobs, atol=1e-5)
        assert (end is End.RESPONSE) == (tokens[-1] in run.framing.ends)
        assert (end is End.CUT) == (end is not End.RESPONSE) == (len(tokens) == run.config.ppo.max_new_tokens)
        ends.add(end)
    assert End.RESPONSE in ends
    assert len({one.tokens for of in whole for one in of}) > PROBLEMS * LINES // 2, "numbers differ, so do responses"


def test_a_continuation_is_one_step(answering):
    run, make = answering()
    found = make()([Asked(0, Expand((), tuple(range(LINES)), 1))])[0]
    for one in found:
        assert len(run.splitter.texts(one.tokens)) <= 1
        if one.end is End.STEP:
            assert ends_host(run.splitter, one.tokens).tolist() == [False] * (len(one.tokens) - 1) + [True]


@pytest.mark.slow
def test_eight_devices_write_what_one_writes(answering):
    one, eight = at_once(answering(1)[1]()), at_once(answering(8)[1]())
    assert [[(a.tokens, a.end) for a in of] for of in one] == [[(a.tokens, a.end) for a in of] for of in eight]


@pytest.mark.slow
def test_the_size_of_a_batch_changes_no_token(answering):
    few, many = step_by_step(answering(rows=2)[1](), 1), step_by_step(answering(rows=8)[1](), 1)
    assert {k: (t, e) for k, (t, _, e) in few.items()} == {k: (t, e) for k, (t, _, e) in many.items()}


@pytest.mark.slow
def test_live_caches_write_what_prefilling_writes(answering):
    """… and compute nothing again."""
    live, plain = answering(live=True)[1](), answering()[1]()
    found, expected = step_by_step(live, 1), step_by_step(plain, 1)
    for name, (tokens, logprobs, end) in found.items():
        assert (tokens, end) == (expected[name][0], expected[name][2])
        np.testing.assert_allclose(logprobs, expected[name][1], atol=1e-5)
    assert live.cost.asked == plain.cost.asked == live.cost.generated
    assert live.cost.prefilled == plain.cost.prefilled and live.cost.computed_again == 0 < plain.cost.computed_again


def test_greedy_continuations_are_the_likeliest(answering):
    _, make = answering()
    (first, second), whole = make()([Asked(0, Expand((), (3, 4), 0, greedy=True)), Asked(0, Expand((), (0,), 0, True))])
    assert first.tokens == second.tokens == whole[0].tokens


def test_the_cost_is_what_was_asked_for(answering):
    _, make = answering(prm="learned")
    answers, explorers = make(), [Explorer() for _ in range(PROBLEMS)]
    searches = [
        beam_search(explorers[0], Beams(1, 2, 2), KeyedTies(0, 0)),
        puct_search(explorers[1], Puct(6, 3, workers=2), KeyedTies(0, 1)),
        best_of(explorers[2], 4),
    ]
    with only_asked_transfers():
        list(drive([of_problem(i, s) for i, s in enumerate(searches)], answers, enough=1000))
    for explorer, cost, tokens in zip(explorers, answers.costs, answers.prompts.tokens, strict=True):
        assert cost.asked == explorer.spent == sum(len(n.tokens) * n.count for n in explorer.tree.nodes)
        assert cost.generated >= cost.asked and cost.prefilled == len(tokens)
        rated = [i for i, n in enumerate(explorer.tree.nodes) if n.value is not None and n.end is not End.CUT]
        assert cost.read == sum(len(tokens) + len(explorer.tree.prefix(i)) for i in rated)
        assert all(0 <= explorer.tree[i].value <= 1 for i in rated)
    assert answers.costs[2].computed_again == 0 < answers.costs[0].computed_again
    assert answers.cost == sum(answers.costs, Cost())


def test_the_exact_scorer_knows_which_steps_are_right(answering):
    run, make = answering(prm="exact")
    answers = make()
    problem = answers.prompts.problems[0]
    right = tuple(run.framing.response(problem.solution))
    ends = np.flatnonzero(ends_host(run.splitter, right))
    prefixes = [right[: end + 1] for end in ends.tolist()] + [right]
    assert len(prefixes) > 1 and answers([Asked(0, Score(p)) for p in prefixes]) == [1.0] * len(prefixes)
    others = [p for p in (run.task.problems("test")[i] for i in range(20)) if p.answer != problem.answer]
    wrong = tuple(run.framing.response(others[0].solution))
    step = wrong[: int(np.flatnonzero(ends_host(run.splitter, wrong))[0]) + 1]
    rated = run.task.rate_steps(problem, run.splitter.texts(step))[0].rating >= 0
    assert answers([Asked(0, Score(wrong)), Asked(0, Score(step)), Asked(0, Forget((wrong,)))]) == [0.0, rated, None]


def test_where_a_step_is_complete_on_the_host():
    """White space behind a complete separator completes nothing; a token may end a step within the next one."""
    splitter = StepSplitter.of_bytes([b"a", b"\n\n", b"\n", b"b\n\nc", b" ", b"x\n\ny\n\n"], "\n\n")
    cases = {
        (0, 1): [0, 1],
        (0, 1, 2, 0, 1): [0, 1, 0, 0, 1],
        (2, 1, 0, 2, 2): [0, 0, 0, 0, 1],
        (3, 1): [1, 1],
        (0, 3, 2, 2, 4): [0, 1, 0, 1, 0],
        (5, 0): [1, 0],
        (99, 0, 1): [0, 0, 1],
    }
    for tokens, expected in cases.items():
        assert ends_host(splitter, tokens).astype(int).tolist() == expected, tokens

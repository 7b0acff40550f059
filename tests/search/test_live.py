"""Answers from live caches: the same continuations whatever is held, and what they cost."""

import functools

import numpy as np
import pytest
from rollout.live import TEXTS
from search.live_case import NUMBERS, answers, line, searches

from stepjax.drive import drive
from stepjax.errors import UserError
from stepjax.search.ask import Asked, Cost, End, Expand, Forget, Score
from stepjax.search.flow import flow

LINES = [(problem, number) for problem in range(len(TEXTS)) for number in NUMBERS]


@functools.cache
def roomy():
    return answers()


def followed(live, steps, **how):
    """Each line's tokens, log-probabilities, end and questions; what this cost, and the tokens that were shared."""
    cost, shared = live.cost, live.shared
    found = dict(flow(searches(steps, **how), live, None, enough=12))
    spent = [after - before for after, before in zip(vars(live.cost).values(), vars(cost).values(), strict=True)]
    return found, dict(zip(vars(cost), spent, strict=True)), live.shared - shared


@functools.cache
def at_once():
    return followed(roomy(), 0)


def same(found):
    theirs = at_once()[0]
    assert sorted(found) == LINES and {line[2] for line in found.values()} == {End.RESPONSE, End.CUT}
    for name, (tokens, logprobs, end, _) in found.items():
        assert tokens == theirs[name][0] and end is theirs[name][2]
        np.testing.assert_allclose(logprobs, theirs[name][1], atol=1e-5)


@pytest.mark.slow
def test_a_response_step_by_step_is_the_one_at_once_and_nothing_is_computed_again():
    found, cost, _ = at_once()
    tokens = sum(len(line[0]) for line in found.values())
    assert cost["asked"] == cost["generated"] == tokens and all(line[3] == 1 for line in found.values())
    found, cost, shared = followed(roomy(), 1)
    same(found)
    assert sum(line[3] for line in found.values()) > 3 * len(LINES)
    assert cost["asked"] == cost["generated"] == tokens
    # The prompts were forgotten, and are read again by the first to ask; all else is found.
    read = sum(map(len, TEXTS))
    assert cost["prefilled"] == 0 and read <= cost["computed_again"] <= read * len(NUMBERS)
    assert cost["computed_again"] + shared == naive(found)


@pytest.mark.slow
def test_a_restart_forgets_all_and_finds_the_same():
    at_once()
    live = roomy()
    live.restart()
    assert live.cost == Cost() and live.open == 0 and not live.shared
    found, cost, _ = followed(live, 0)
    same(found)
    assert cost["prefilled"] == sum(map(len, TEXTS)), "the prompts are not known any more"


def naive(found):
    """Tokens that prefilling the prefix of each question would compute."""
    total = 0
    for (problem, number), (tokens, *_) in found.items():
        search, prefix = line(problem, number, 1, False), 0
        next(search)
        for n in roomy_steps(problem, number, tokens):
            total += len(TEXTS[problem]) + prefix
            prefix = n
    return total


@functools.cache
def roomy_steps(problem, number, tokens):
    """After how many tokens each step of a response ends, asked for one by one."""
    live, ends, prefix = roomy(), [], ()
    while True:
        ((one,),) = live([Asked(problem, Expand(prefix, (number,)))])
        prefix += one.tokens
        ends.append(len(prefix))
        if one.end is not End.STEP:
            live([Asked(problem, Forget(tuple(prefix[:n] for n in [0, *ends])))])
            assert prefix == tokens
            return ends


def test_rounds_of_questions_are_answered_alike():
    found = dict(drive(searches(1), roomy(), enough=12))
    same(found)


def test_siblings_and_lookaheads_share_a_prefix():
    live = roomy()
    shared = live.shared
    asked = [Asked(1, Expand((), (3, 4, 5))), Asked(1, Expand((), (9, 9), 0, True)), Asked(2, Expand((), (5,), 2))]
    three, greedy, two = live(asked)
    assert three[2].tokens == at_once()[0][1, 5][0][: len(three[2].tokens)]
    assert greedy[0].tokens == greedy[1].tokens and greedy[0].end is not End.STEP
    assert live.shared - shared == len(TEXTS[1])
    whole = at_once()[0][2, 5]
    assert two[0].tokens == whole[0][: len(two[0].tokens)]
    again = live([Asked(1, Expand(three[0].tokens, (3,), 0))]) if three[0].end is End.STEP else None
    assert again is None or three[0].tokens + again[0][0].tokens == live([Asked(1, Expand((), (3,), 0))])[0][0].tokens
    live([Asked(1, Forget(((), *(one.tokens for one in three)))), Asked(2, Forget(((), two[0].tokens)))])
    assert not live.nodes.rows


def test_nothing_is_forgotten_for_what_finds_no_slot():
    live = roomy()
    results = [one.tokens for one in live([Asked(3, Expand((), tuple(range(40))))])[0] if one.end is End.STEP]
    held = set(live.nodes.rows)
    assert {(3, tokens) for tokens in results} <= held
    free = live.sizes.rows - len(held)
    assert free >= live.sizes.slots
    (number,) = live.ask([Asked(3, Expand((), tuple(range(50, 53 + free))))])
    answered = live.poll(1)
    assert held <= set(live.nodes.rows) and live.open > 3 and not answered, "three of them have no row"
    while number not in answered:
        answered |= live.poll()
    assert len(answered[number]) == free + 3
    live([Asked(3, Forget(tuple(tokens for _, tokens in live.nodes.rows)))])


@pytest.mark.slow
@pytest.mark.parametrize(
    "sizes",
    [
        {"rows": 8},
        {"rows": 8, "block": 0},
        *({"block": 2, "cache_tokens": n} for n in (64, 32)),
        {"mesh": (8, 1, 1), "slots": 8, "rows": 64},
    ],
)
def test_prefixes_that_find_no_room_are_read_again(sizes):
    live = answers(**sizes)
    found, cost, shared = followed(live, 1, forgets=False)
    same(found)
    assert cost["computed_again"] + cost["prefilled"] + shared == naive(found)
    assert (cost["computed_again"] > 0) == ("mesh" not in sizes)
    if "cache_tokens" in sizes:
        assert cost["generated"] >= cost["asked"]


def test_what_cannot_be_answered_is_refused():
    live = roomy()
    with pytest.raises(ValueError, match="does not answer Score"):
        live([Asked(0, Score(()))])
    with pytest.raises(ValueError, match="nothing goes on behind it"):
        live([Asked(0, Expand((5,) * 12, (0,)))])
    with pytest.raises(UserError, match=r"^config\.ppo\.cache_tokens: 16 tokens a device do not hold one response"):
        answers(cache_tokens=16)
    with pytest.raises(ValueError, match="cannot be divided among 8 devices"):
        answers(mesh=(8, 1, 1), slots=8, rows=12)

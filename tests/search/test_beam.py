"""Best-of-N, step beams, DVTS and revisions in worlds where their outcomes are known exactly."""

import math

import pytest
from search.searching import Chance, FirstOfTies, distribution, run
from search.world import TableWorld, keyed_draw

from stepjax.search.ask import Asked, End, Expand, Forget, Score
from stepjax.search.beam import Beams, beam_search, best_of, revisions
from stepjax.search.explorer import Explorer
from stepjax.search.ties import KeyedTies

GO, STOP = 1, 9
LENGTHS = {1: 0.5, 2: 0.25, 3: 0.25}
"""Responses of one step, two and three."""


def by_length(prefix):
    return [{GO: 0.5, STOP: 0.5}, {GO: 0.5, STOP: 0.5}, {STOP: 1.0}][len(prefix)]


@pytest.mark.parametrize(("groups", "width", "keep"), [(1, 2, 1), (1, 2, 2), (2, 2, 1), (1, 3, 1)])
def test_under_a_constant_scorer_a_slot_ends_as_the_policy_does(groups, width, keep):
    """Neither short responses nor long ones are favoured, by enumeration of all that chance can do."""

    def experiment(chance: Chance) -> dict[int, float]:
        world, explorer = TableWorld(by_length, frozenset({STOP}), draw=chance.draw), Explorer()
        found = run(beam_search(explorer, Beams(groups, width, keep), chance), world)
        slots = sum(one.share for one in found)
        assert slots == groups * width * keep
        shares: dict[int, float] = {}
        for one in found:
            assert explorer.tree[one.node].end is End.RESPONSE
            length = len(explorer.tree.prefix(one.node))
            shares[length] = shares.get(length, 0.0) + one.share / slots
        return shares

    assert distribution(experiment) == pytest.approx(LENGTHS)


RIGHT, WRONG = 1, 0


def chain(p: float, steps: int):
    """`steps` steps, each right with probability p whatever was before; the last one ends the response."""

    def policy(prefix):
        last = 10 * (len(prefix) + 1 == steps)
        return {last + RIGHT: p, last + WRONG: 1 - p}

    return policy, frozenset({10 + RIGHT, 10 + WRONG}), lambda prefix: float(all(t % 10 == RIGHT for t in prefix))


def binomial(n: int, p: float, k: int) -> float:
    return math.comb(n, k) * p**k * (1 - p) ** (n - k)


def closed_form(n: int, m: int, p: float, steps: int) -> float:
    """P(a right response is found) by the number of right lines alone: live ← m · min(Bin(live, p), n / m)."""
    live = {n: 1.0}
    for _ in range(steps):
        after: dict[int, float] = {}
        for count, probability in live.items():
            for right in range(count + 1):
                now = m * min(right, n // m)
                after[now] = after.get(now, 0.0) + probability * binomial(count, p, right)
        live = after
    return 1 - live.get(0, 0.0)


@pytest.mark.parametrize(("n", "m", "expected"), [(8, 4, 0.9967), (8, 1, 0.6706), (4, 2, 0.8278)])
def test_the_closed_forms_of_independent_steps(n, m, expected):
    """The figures; and the method has this very chance: by enumeration where that is small, else by frequency."""
    assert closed_form(n, m, 0.6, 4) == pytest.approx(expected, abs=5e-5)
    policy, ends, value = chain(0.6, 4)

    def found_right(ties, draw) -> float:
        world, explorer = TableWorld(policy, ends, value, draw=draw), Explorer()
        found = run(beam_search(explorer, Beams(1, m, n // m) if m > 1 else Beams(n, 1, 1), ties), world)
        return float(any(explorer.tree[one.node].value == 1.0 for one in found))

    count = 1000
    mean = sum(found_right(KeyedTies(0, 0), keyed_draw(seed)) for seed in range(count)) / count
    assert abs(mean - expected) < 4 * math.sqrt(expected * (1 - expected) / count)


@pytest.mark.parametrize(("groups", "width", "keep"), [(1, 2, 1), (2, 2, 1), (3, 1, 1)])
def test_independent_steps_by_enumeration(groups, width, keep):
    policy, ends, value = chain(0.6, 3)

    def experiment(chance: Chance) -> dict[str, float]:
        explorer = Explorer()
        world = TableWorld(policy, ends, value, draw=chance.draw)
        # Which of equal lines goes on does not change the chance.
        found = run(beam_search(explorer, Beams(groups, width, keep), FirstOfTies()), world)
        return {"right": float(any(explorer.tree[one.node].value == 1.0 for one in found))}

    one_group = closed_form(width * keep, width, 0.6, 3)
    assert distribution(experiment)["right"] == pytest.approx(1 - (1 - one_group) ** groups)


def words(prefix):
    """A policy of eight words that depends on the last one."""
    last = prefix[-1] if prefix else 0
    shares = [(last * 5 + 3 * i) % 7 + 1 for i in range(8)]
    shares[7] = 6 if prefix else 0
    return {i: share / sum(shares) for i, share in enumerate(shares)}


WORDS = frozenset({7})


def texts(explorer, found):
    return sorted((explorer.tree.prefix(one.node), one.share) for one in found)


def test_width_one_draws_the_tokens_of_best_of_n():
    once, stepwise, revised = Explorer(), Explorer(), Explorer()
    world = TableWorld(words, WORDS, longest=12)
    at_once = texts(once, run(best_of(once, 16), world))
    assert texts(stepwise, run(beam_search(stepwise, Beams(16, 1, 1), FirstOfTies()), world)) == at_once
    assert texts(revised, run(revisions(revised, 16), world)) == at_once, "a constant scorer: all begin anew"
    assert sum(share for _, share in at_once) == 16 and len(at_once) > 8


def test_no_number_is_used_twice_behind_different_prefixes():
    """The noise of a rejected line must not be lent to another one."""
    for search in (
        lambda e: beam_search(e, Beams(2, 3, 2), KeyedTies(0, 0)),
        lambda e: revisions(e, 6),
    ):
        world, behind = TableWorld(words, WORDS, value=lambda p: sum(p) % 5 / 5, longest=12), {}
        run(search(Explorer()), world)
        for question, answers in world.log:
            if isinstance(question, Expand):
                for number, one in zip(question.numbers, answers, strict=True):
                    written = behind.setdefault(number, question.prefix)
                    assert question.prefix[: len(written)] == written or question.prefix == written
                    behind[number] = (*question.prefix, *one.tokens)
        assert len(behind) >= 6


def test_a_lookahead_is_rated_paid_for_and_thrown_away():
    def value(prefix):
        return len(prefix) / 100

    plain, ahead = Explorer(), Explorer(lookahead=2)
    worlds = [TableWorld(words, WORDS, value, longest=12) for _ in range(2)]
    run(beam_search(plain, Beams(1, 2, 2), KeyedTies(0, 0)), worlds[0])
    run(beam_search(ahead, Beams(1, 2, 2), KeyedTies(0, 0)), worlds[1])
    greedy = [(q, a) for q, a in worlds[1].log if isinstance(q, Expand) and q.greedy]
    scored = {q.prefix for q, _ in worlds[1].log if isinstance(q, Score)}
    assert greedy and all(q.steps == 2 for q, _ in greedy)
    for question, (one,) in greedy:
        if one.end is not End.CUT:
            assert (*question.prefix, *one.tokens) in scored
    assert ahead.spent == worlds[1].cost.asked > sum(len(n.tokens) * n.count for n in ahead.tree.nodes)
    assert plain.spent == worlds[0].cost.asked == sum(len(n.tokens) * n.count for n in plain.tree.nodes)


def test_a_cut_response_keeps_its_slot_and_has_no_value():
    world, explorer = TableWorld(lambda prefix: {GO: 1.0}, frozenset({STOP}), longest=3), Explorer()
    (one,) = run(beam_search(explorer, Beams(1, 2, 1), FirstOfTies()), world)
    assert explorer.tree[one.node].end is End.CUT and explorer.tree[one.node].value == 0.0 and one.share == 2
    assert (GO,) * 3 not in {q.prefix for q, _ in world.log if isinstance(q, Score)}


@pytest.mark.parametrize("budget", [12, 20, 50])
def test_best_of_n_never_spends_more_than_its_budget(budget):
    explorer = Explorer(budget=budget, longest=12)
    found = run(best_of(explorer, 1000), TableWorld(words, WORDS, longest=12))
    assert 0 < explorer.spent <= budget and found


def test_a_beam_stops_when_its_budget_is_spent():
    explorer = Explorer(budget=8, longest=12)
    found = run(beam_search(explorer, Beams(4, 1, 1), FirstOfTies()), TableWorld(words, WORDS, longest=12))
    assert 8 <= explorer.spent < 8 + 4
    assert any(explorer.tree[one.node].end is End.STEP for one in found)


def test_a_revision_begins_before_the_step_that_is_rated_lowest():
    """Steps are right or not; a wrong one is drawn anew and what was right before it stays."""
    policy, ends, value = chain(0.5, 6)
    world, explorer = TableWorld(policy, ends, value), Explorer()
    found = run(revisions(explorer, 40), world)
    lengths = [next((i for i, t in enumerate(p) if t % 10 == WRONG), 6) for p, _ in texts(explorer, found)]
    assert max(lengths) == 6, "a right response is found"
    begins: dict[int, tuple[int, ...]] = {}
    for question, _ in world.log:
        if isinstance(question, Expand):
            begins.setdefault(question.numbers[0], question.prefix)
    assert len(begins) == 40 and all(value(prefix) == 1.0 for prefix in begins.values())
    assert len(set(begins.values())) > 2


def test_what_is_forgotten_is_not_asked_again():
    world, explorer, gone = TableWorld(words, WORDS, value=lambda p: sum(p) % 5 / 5, longest=12), Explorer(), set()

    def search():
        found = yield from beam_search(explorer, Beams(2, 2, 2), KeyedTies(0, 0))
        yield from explorer.closed()
        return found

    run(search(), world)
    asked = [q for q, _ in world.log if not isinstance(q, Score)]
    for question in asked:
        if isinstance(question, Forget):
            gone |= set(question.prefixes)
        else:
            assert question.prefix not in gone
    open_ones = {explorer.tree.prefix(i) for i in range(len(explorer.tree)) if explorer.tree[i].open}
    assert open_ones <= gone, "nothing is kept for ever"


def test_a_prefix_that_has_ended_is_not_continued():
    with pytest.raises(ValueError, match="has ended"):
        TableWorld(words, WORDS)([Asked(0, Expand((7,), (0,)))])

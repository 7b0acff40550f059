"""PUCT in worlds where its visits, priors and costs are known exactly."""

import math

import pytest
from search.searching import Chance, Counted, FirstOfTies, distribution, run
from search.world import TableWorld

from stepjax.search.ask import End, Expand
from stepjax.search.beam import best_of
from stepjax.search.explorer import Explorer
from stepjax.search.puct import PRIORS, Puct, puct_search
from stepjax.search.ties import KeyedTies


def seats(prior: dict[int, float], count: int) -> dict[int, int]:
    """D'Hondt's divisors: each seat goes where P / (1 + seats so far) is greatest."""
    found = dict.fromkeys(prior, 0)
    for _ in range(count):
        taken = max(prior, key=lambda name: prior[name] / (1 + found[name]))
        found[taken] += 1
    return found


@pytest.mark.parametrize("sims", [1, 7, 40, 200])
def test_a_constant_value_gives_the_roots_visits_as_seats(sims):
    prior = {1: 0.5, 2: 0.3, 3: 0.2}
    world = Counted(lambda prefix: prior, frozenset(), value=lambda prefix: 0.0, longest=50)
    explorer = Explorer()
    run(puct_search(explorer, Puct(sims, 10), FirstOfTies()), world)
    root = explorer.tree[0]
    visits = {explorer.tree[child].tokens[0]: explorer.tree[child].visits for child in root.children}
    assert visits == seats(prior, sims)


def uniform_tree(branches: int, depth: int, right: tuple[int, ...]):
    """A tree of `branches` equal moves a level, with one right leaf, and the exact values."""

    def policy(prefix):
        last = 100 * (len(prefix) + 1 == depth)
        return {last + i: 1 / branches for i in range(branches)}

    def value(prefix):
        return float(all(t % 100 == r for t, r in zip(prefix, right, strict=False)))

    return policy, frozenset(range(100, 100 + branches)), value


def simulations_until_found(branches: int, depth: int, backup: str, most: int) -> int:
    """By the worst case: the right move is the last of equals everywhere."""
    right = (branches - 1,) * depth
    policy, ends, value = uniform_tree(branches, depth, right)
    for sims in range(1, most + 1):
        explorer = Explorer()
        world = Counted(policy, ends, value)
        run(puct_search(explorer, Puct(sims, branches, backup=backup), FirstOfTies()), world)
        if any(value(explorer.tree.prefix(node)) for node in explorer.tree.ended() if explorer.tree[node].visits):
            return sims
    return most + 1


@pytest.mark.parametrize(("branches", "depth"), [(2, 2), (2, 5), (3, 3), (3, 4), (4, 3), (4, 4), (5, 3)])
def test_the_right_leaf_is_found_by_the_maximum_in_as_many_simulations_as_there_are_moves(branches, depth):
    assert simulations_until_found(branches, depth, "max", branches * depth) <= branches * depth


@pytest.mark.parametrize(("branches", "depth", "expected"), [(3, 3, 11), (3, 4, 20), (4, 4, 55)])
def test_the_mean_needs_more(branches, depth, expected):
    assert simulations_until_found(branches, depth, "mean", 80) == expected


def words(prefix):
    """A policy of eight words that depends on the last one; 7 ends a response."""
    last = prefix[-1] if prefix else 0
    shares = [(last * 5 + 3 * i) % 7 + 1 for i in range(8)]
    return {i: share / sum(shares) for i, share in enumerate(shares)}


def value(prefix):
    return sum((i + 1) * t for i, t in enumerate(prefix)) % 11 / 11


@pytest.mark.parametrize("options", [Puct(30, 3), Puct(30, 2, widen=1.5, workers=4), Puct(30, 3, prior="likelihood")])
def test_the_cost_is_what_was_asked_for(options):
    for lookahead in (0, 1):
        world, explorer = TableWorld(words, frozenset({7}), value, longest=9), Explorer(lookahead=lookahead)
        run(puct_search(explorer, options, KeyedTies(0, 0)), world)
        asked = sum(len(one.tokens) for q, a in world.log if isinstance(q, Expand) for one in a)
        assert explorer.spent == world.cost.asked == asked
        sampled = sum(len(node.tokens) * node.count for node in explorer.tree.nodes[1:])
        assert (asked == sampled) if not lookahead else (asked > sampled)


def test_widening_samples_more_where_there_are_more_visits():
    world, explorer = TableWorld(words, frozenset({7}), value, longest=9), Explorer()
    run(puct_search(explorer, Puct(60, 1, widen=1.0), KeyedTies(0, 0)), world)
    tree = explorer.tree
    inner = [node for node in tree.nodes if node.children]
    for node in inner:
        samples = sum(tree[child].count for child in node.children)
        assert samples in {math.ceil(math.sqrt(max(n, 1))) for n in (node.visits - 1, node.visits)}
    assert max(len(node.children) for node in inner) > 3


def test_priors_of_counts_have_the_policys_expectation():
    """A softmax over the likelihoods of different children has not."""
    policy = {1: 0.7, 2: 0.2, 3: 0.1}

    def experiment(prior: str):
        def of(chance: Chance) -> dict[int, float]:
            world, explorer = TableWorld(lambda prefix: policy, frozenset(), draw=chance.draw, longest=9), Explorer()
            search = puct_search(explorer, Puct(1, 4), FirstOfTies())
            world([])
            questions = next(search)
            asked = next(q for q in questions if isinstance(q, Expand))
            answers = [world._answer(0, asked)]
            answers[0] = [type(a)(a.tokens, (math.log(policy[a.tokens[0]]),), a.end) for a in answers[0]]
            search.send(answers)
            children = [explorer.tree[child] for child in explorer.tree[0].children]
            return {one.tokens[0]: p for one, p in zip(children, PRIORS[prior](children), strict=True)}

        return distribution(of)

    assert experiment("counts") == pytest.approx(policy)
    likely = experiment("likelihood")
    assert [round(likely[i], 2) for i in (1, 2, 3)] == [0.83, 0.13, 0.04]


def test_a_response_that_was_cut_is_worth_nothing_and_one_is_finished_where_none_has_ended():
    world, explorer = TableWorld(lambda prefix: {1: 1.0}, frozenset({9}), lambda prefix: 0.9, longest=3), Explorer()
    (only,) = run(puct_search(explorer, Puct(2, 2), FirstOfTies()), world)
    assert explorer.tree[only.node].end is End.CUT
    long = TableWorld(lambda prefix: {9: 1.0} if len(prefix) > 4 else {1: 0.5, 2: 0.5}, frozenset({9}), longest=30)
    explorer = Explorer()
    (only,) = run(puct_search(explorer, Puct(2, 2), FirstOfTies()), long)
    assert explorer.tree[only.node].end is End.RESPONSE and len(explorer.tree.prefix(only.node)) == 6


def test_a_budget_ends_the_search():
    world, explorer = TableWorld(words, frozenset({7}), value, longest=9), Explorer(budget=20, longest=9)
    run(puct_search(explorer, Puct(1000, 4), FirstOfTies()), world)
    assert 20 <= explorer.spent <= 20 + 4 + 9
    generous = Explorer(budget=10**6, longest=9)
    run(puct_search(generous, Puct(30, 4), FirstOfTies()), TableWorld(words, frozenset({7}), value, longest=9))
    once = Explorer()
    run(best_of(once, 1), TableWorld(words, frozenset({7}), value, longest=9))
    assert generous.spent > explorer.spent

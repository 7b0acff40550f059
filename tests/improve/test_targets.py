"""What is learned of a search: weights of tokens against a plain loop over the tree, and in a world that is known."""

import hashlib

import numpy as np
import pytest
from search.searching import Counted, FirstOfTies, run

from stepjax.config import ImproveOptions
from stepjax.improve.targets import Target, example, right_paths, visited_paths
from stepjax.search.ask import End, Sampled
from stepjax.search.explorer import Explorer
from stepjax.search.puct import Puct, puct_search
from stepjax.search.tree import Tree


def sampled(*tokens: int, end: End = End.STEP) -> Sampled:
    return Sampled(tokens, (0.0,) * len(tokens), end)


def random_tree(seed: int) -> Tree:
    """Steps of one to three tokens, visited as simulations that begin at the root would visit them."""
    rng, tree = np.random.default_rng(seed), Tree()
    for _ in range(12):
        parent = int(rng.choice([i for i in range(len(tree)) if tree[i].open]))
        end = End.RESPONSE if rng.random() < 0.3 else End.STEP
        tree.add(parent, sampled(*rng.integers(1, 5, rng.integers(1, 4)).tolist(), end=end), 0)
    for node in rng.integers(0, len(tree), 40).tolist():
        tree.back_up(node, float(rng.random()))
    return tree


def logprob(prefix: tuple[int, ...], token: int) -> float:
    """Some log-probability for every token behind every prefix."""
    digest = hashlib.blake2b(repr((prefix, token)).encode(), digest_size=4).digest()
    return -0.1 - int.from_bytes(digest, "big") / 2**31


def loss_by_loop(tree: Tree, least: int) -> float:
    """−Σ over prefixes, Σ over their steps N_a / ΣN · Σ over the step's tokens log π, as it is written down."""
    total = 0.0
    for node in range(len(tree)):
        behind = sum(tree[child].visits for child in tree[node].children)
        if behind < least:
            continue
        for child in tree[node].children:
            before = tree.prefix(node)
            for token in tree[child].tokens:
                total -= tree[child].visits / behind * logprob(before, token)
                before = (*before, token)
    return total


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("least", [1, 4, 9])
def test_the_rows_of_visits_have_the_loss_of_all_prefixes(seed, least):
    tree = random_tree(seed)
    rows = visited_paths(tree, (), ImproveOptions(least_visits=least), "mean", tuple)
    total = 0.0
    for row in rows:
        assert len(row.tokens) == len(row.weights) and row.weights[-1] > 0
        for i, (token, weight) in enumerate(zip(row.tokens, row.weights, strict=True)):
            total -= weight * logprob(row.tokens[:i], token)
    assert total == pytest.approx(loss_by_loop(tree, least), rel=1e-9) and total > 0


def test_a_known_world_gives_the_seats_of_its_prior():
    prior = {1: 0.5, 2: 0.3, 3: 0.2}
    world = Counted(lambda prefix: prior, frozenset({1, 2, 3}), value=lambda prefix: 0.0)
    explorer = Explorer()
    run(puct_search(explorer, Puct(10, 10), FirstOfTies()), world)
    rows = visited_paths(explorer.tree, (), ImproveOptions(least_visits=10), "mean", tuple)
    # D'Hondt: the quotients .5, .3, .25, .2, .167, .15, .125, .1, .1, .1 are the ten greatest.
    assert sorted((row.tokens, row.weights) for row in rows) == [((1,), (0.5,)), ((2,), (0.3,)), ((3,), (0.2,))]
    assert not visited_paths(explorer.tree, (), ImproveOptions(least_visits=11), "mean", tuple)


def test_right_paths_are_the_best_different_ones():
    tree = Tree()
    for tokens, value in (((1, 9), 0.3), ((1, 7, 9), 0.9), ((2, 9), 0.8), ((3, 9), 0.95), ((4, 9), 0.1)):
        tree[tree.add(0, sampled(*tokens, end=End.RESPONSE), 0)].value = value
    right = {1, 2, 3, 5}

    def without_sevens(tokens):
        return tuple(token for token in tokens if token != 7)

    def found(most):
        return [
            one.tokens for one in right_paths(tree, right, ImproveOptions(per_problem=most), "mean", without_sevens)
        ]

    assert found(9) == [(1, 7, 9), (2, 9), (4, 9)], "the wrong one, worth most, is none, and 1 9 is the same as 1 7 9"
    assert found(2) == [(1, 7, 9), (2, 9)]
    assert right_paths(tree, (), ImproveOptions(), "mean", tuple) == []


def test_a_row_predicts_each_token_from_the_one_before():
    one = example([5, 6], Target((7, 8, 9), (0.25, 0.0, 1.0)))
    assert one.tokens.tolist() == [5, 6, 7, 8, 9]
    assert one.targets.tolist() == [-1, 7, -1, 9, -1]
    assert one.values is not None and one.values.tolist() == [0.0, 0.25, 0.0, 1.0, 0.0]

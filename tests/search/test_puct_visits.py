"""Visits of PUCT against another program's, against the rule written as a plain loop, and of many workers."""

import functools
import math
import random

import numpy as np
import pytest
from search.searching import Counted, FirstOfTies, run

from stepjax.search.explorer import Explorer
from stepjax.search.puct import Puct, puct_search

SHARES = 24
"""Priors are multiples of 1 / SHARES."""


def _different(rng: random.Random, count: int) -> list[int]:
    """Numbers of samples that sum to `SHARES`; no two are equal, for equal moves are taken at random elsewhere."""
    while True:
        cuts = sorted(rng.sample(range(1, SHARES), count - 1))
        found = [high - low for low, high in zip([0, *cuts], [*cuts, SHARES], strict=True)]
        if len(set(found)) == count:
            return found


class RandomTree:
    """Moves with random priors, values and ends: nodes by number, `child[node][move]`, −1 where there is none."""

    def __init__(self, seed: int, moves: int = 4, depth: int = 4):
        rng = random.Random(seed)
        self.child: list[list[int]] = [[-1] * moves]
        self.prior: list[list[float]] = [[0.0] * moves]
        self.value, self.ended = [rng.random()], [False]
        level = [0]
        for last in range(depth):
            after = []
            for node in level:
                count = rng.randint(2, moves)
                for move, samples in enumerate(_different(rng, count)):
                    self.prior[node][move] = samples / SHARES
                    self.child[node][move] = len(self.child)
                    self.child.append([-1] * moves), self.prior.append([0.0] * moves)
                    self.value.append(rng.random())
                    self.ended.append(last + 1 == depth or rng.random() < 0.2)
                    if not self.ended[-1]:
                        after.append(len(self.child) - 1)
            level = after

    def at(self, prefix: tuple[int, ...]) -> int:
        return functools.reduce(lambda node, token: self.child[node][token % 100], prefix, 0)

    def policy(self, prefix):
        node = self.at(prefix)
        moves = [(move, child) for move, child in enumerate(self.child[node]) if child >= 0]
        return {move + 100 * self.ended[child]: self.prior[node][move] for move, child in moves}

    def visits(self, sims: int, workers: int = 1, backup: str = "mean") -> tuple[list[int], Explorer, Counted]:
        """Of the root's moves."""
        world = Counted(self.policy, frozenset(range(100, 110)), lambda prefix: self.value[self.at(prefix)])
        explorer = Explorer()
        run(puct_search(explorer, Puct(sims, SHARES, workers=workers, backup=backup), FirstOfTies()), world)
        tree, found = explorer.tree, [0] * len(self.child[0])
        for child in tree[0].children:
            found[tree[child].tokens[0] % 100] = tree[child].visits
        return found, explorer, world


TREES, SIMS = 70, 48


def mctx_visits() -> np.ndarray:
    """int[TREES, moves], of all trees in one batch."""
    mctx = pytest.importorskip("mctx")
    import jax
    import jax.numpy as jnp

    trees = [RandomTree(seed) for seed in range(TREES)]
    dead = max(len(tree.child) for tree in trees)

    def stacked(name: str, fill) -> jnp.ndarray:
        rows = [getattr(tree, name) for tree in trees]
        return jnp.array([[*row, *[fill] * (dead + 1 - len(row))] for row in rows])

    child = stacked("child", [-1] * 4)
    child = jnp.where(child < 0, dead, child)
    logits = jnp.log(jnp.maximum(stacked("prior", [0.0] * 4), 1e-30))
    value, ended = stacked("value", 0.0), stacked("ended", True)
    every = jnp.arange(TREES)

    def recurrent(params, key, action, node):
        before, node = node, child[every, node, action]
        real = (node < dead) & ~ended[every, before]
        reward = jnp.where(ended[every, node] & real, value[every, node], 0.0)
        found = mctx.RecurrentFnOutput(
            reward=reward,
            discount=jnp.where(ended[every, node], 0.0, 1.0),
            prior_logits=logits[every, node],
            value=jnp.where(ended[every, node], 0.0, value[every, node]),
        )
        return found, node

    root = mctx.RootFnOutput(prior_logits=logits[:, 0], value=value[:, 0], embedding=jnp.zeros(TREES, jnp.int32))
    transform = functools.partial(mctx.qtransform_by_min_max, min_value=0.0, max_value=1.0)
    found = mctx.muzero_policy(
        (), jax.random.key(0), root, recurrent, SIMS, dirichlet_fraction=0.0, qtransform=transform
    )
    return np.asarray(found.search_tree.summary().visit_counts)


def test_visits_are_those_of_mctx():
    theirs = mctx_visits().astype(int).tolist()
    assert [RandomTree(seed).visits(SIMS)[0] for seed in range(TREES)] == theirs


@pytest.mark.parametrize("backup", ["mean", "max"])
def test_one_worker_is_the_sequential_search_and_many_do_as_many_simulations(backup):
    """One by one, another set of simulations than the same number at once; each counts once in every node above it."""
    for seed in range(8):
        tree = RandomTree(seed)
        alone, _, _ = tree.visits(SIMS, 1, backup)
        in_parts = sequential(tree, SIMS, backup)
        assert alone == in_parts
        together, many, _ = tree.visits(SIMS, 6, backup)
        assert sum(alone) == sum(together) == SIMS
        assert not any(many.tree[i].visits < 0 for i in range(len(many.tree)))
        for node in many.tree.nodes:
            if node.open and node.visits:
                assert node.visits == 1 + sum(many.tree[child].visits for child in node.children)


def sequential(tree: RandomTree, sims: int, backup: str) -> list[int]:
    """The rule again, as plain recursion without questions, on the tree itself."""
    visits, total, best = ([x] * len(tree.child) for x in (0, 0.0, 0.0))
    visits[0] = 1
    for _ in range(sims):
        path, node = [0], 0
        while visits[node] and not tree.ended[node]:
            n = visits[node]
            weight = (1.25 + math.log((n + 19652 + 1) / 19652)) * math.sqrt(n)

            def score(move: int, node: int = node, weight: float = weight) -> float:
                child = tree.child[node][move]
                mean = total[child] / visits[child] if visits[child] else 0.0
                return (best[child] if backup == "max" else mean) + weight * tree.prior[node][move] / (
                    1 + visits[child]
                )

            node = tree.child[node][max((m for m, c in enumerate(tree.child[node]) if c >= 0), key=score)]
            path.append(node)
        for one in path:
            visits[one] += 1
            total[one] += tree.value[node]
            best[one] = max(best[one], tree.value[node])
    return [visits[child] if child >= 0 else 0 for child in tree.child[0]]

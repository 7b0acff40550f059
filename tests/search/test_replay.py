"""Responses of a larger best-of-N stand for those of a smaller one."""

import json

import pytest
from search.searching import run
from search.world import TableWorld

from stepjax.search.ask import Asked, Cost, End, Expand, Forget, Score, of_problem
from stepjax.search.beam import best_of
from stepjax.search.explorer import Explorer
from stepjax.search.flow import flow
from stepjax.search.replay import Replay, whole_responses
from stepjax.search.tree import Tree

PROMPT = (7, 7, 7)


def world() -> TableWorld:
    return TableWorld(lambda prefix: {1: 0.5, 2: 0.2, 9: 0.3}, frozenset({9}), lambda p: sum(p) % 5 / 5, longest=4)


def searched(count: int) -> Tree:
    explorer = Explorer()
    run(best_of(explorer, count), world())
    return explorer.tree


def same(one: Tree, other: Tree) -> bool:
    texts = ["" for _ in one.nodes]
    return len(one) == len(other) and one.to_json(texts) == other.to_json(texts)


@pytest.mark.parametrize("count", [1, 3, 12, 40])
def test_the_first_responses_are_those_of_a_smaller_search(count):
    whole = searched(40)
    assert len(whole) < 41, "some responses are equal"
    rows = json.loads(json.dumps(whole.to_json(["" for _ in whole.nodes])))
    known = whole_responses(Tree.from_json(rows))
    assert sorted(known) == list(range(40))
    explorer, replay = Explorer(), Replay([PROMPT], [known])
    values = world()

    def score(asked):
        return [values([one])[0] for one in asked]

    (candidates,) = flow([of_problem(0, best_of(explorer, count))], replay, score, enough=1)
    alone = searched(count)
    assert same(explorer.tree, alone) and sum(c.share for c in candidates) == count
    tokens = sum(len(node.tokens) * node.count for node in alone.nodes)
    assert replay.costs == [Cost(asked=tokens, generated=tokens, prefilled=len(PROMPT))]


def test_only_whole_responses_are_known():
    replay = Replay([PROMPT], [whole_responses(searched(4))])
    assert replay([Asked(0, Forget(((),)))]) == [None] and replay.costs == [Cost()]
    for question in (Expand((), (0,), steps=1), Expand((1,), (0,), steps=0), Score(())):
        with pytest.raises(ValueError, match="only whole responses"):
            replay([Asked(0, question)])
    assert {one.end for one in replay.known[0].values()} <= {End.RESPONSE, End.CUT}

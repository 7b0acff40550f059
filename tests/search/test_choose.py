"""Votes, random choices, trees in JSON, and what a tree teaches."""

import json
from collections import Counter

import pytest
from search.searching import FirstOfTies, distribution, run
from search.world import TableWorld

from stepjax.config import Config, options_of
from stepjax.data.schema import LabelledSolution
from stepjax.errors import UserError
from stepjax.search.ask import Cost, End, Sampled
from stepjax.search.beam import best_of
from stepjax.search.choose import WEIGHTS, Vote, choose
from stepjax.search.explorer import Explorer
from stepjax.search.methods import METHODS
from stepjax.search.puct import PRIORS, Puct, puct_search
from stepjax.search.scorers import SCORERS
from stepjax.search.targets import best_right, value_records, visit_shares
from stepjax.search.ties import KeyedTies, best
from stepjax.search.tree import BACKUPS, Tree

FIRST = FirstOfTies()


def test_options_have_the_choices_of_the_registries():
    options = dict(options_of(Config))
    registries = {"method": METHODS, "prm": SCORERS, "choose": WEIGHTS, "prior": PRIORS, "backup": BACKUPS}
    for name, registry in registries.items():
        assert set(options[f"search.{name}"].metadata["choices"]) == set(registry), name


def test_votes_are_summed_over_each_answer():
    votes = [Vote(0, 0.9), Vote(1, 0.5), Vote(1, 0.6), Vote(2, 0.2, share=3), Vote(-1, 1.0, share=9)]
    assert choose(votes, "vote", FIRST).response == 2, "the answer 1, and of its responses the better one"
    assert choose(votes, "majority", FIRST).response == 3
    assert choose(votes, "best", FIRST).response == 0
    assert choose(votes, "vote", FIRST).weights == pytest.approx({0: 0.9, 1: 1.1, 2: 0.6})
    assert choose([Vote(-1, 1.0)], "vote", FIRST).response is None and choose([], "best", FIRST).response is None
    assert choose([Vote(0, 0.0)], "vote", FIRST).response == 0, "an answer without weight is one that was given"


def test_equals_are_chosen_equally_often():
    votes = [Vote(0, 0.5), Vote(1, 0.5), Vote(1, 0.0), Vote(2, 0.1)]
    chosen = distribution(lambda chance: {choose(votes, "vote", chance).response: 1.0})
    assert chosen == pytest.approx({0: 0.5, 1: 0.5})
    kept = distribution(lambda chance: Counter(best([0.2, 0.7, 0.2, 0.2], 2, chance)))
    assert kept == pytest.approx({1: 1.0, 0: 1 / 3, 2: 1 / 3, 3: 1 / 3})


def test_sums_in_another_order_are_equal():
    votes = [Vote(0, 0.1), Vote(0, 0.2), Vote(0, 0.3), Vote(1, 0.3), Vote(1, 0.2), Vote(1, 0.1)]
    assert len(distribution(lambda chance: {choose(votes, "vote", chance).response: 1.0})) == 2


def test_random_choices_come_from_seed_and_problem_alone():
    def drawn(seed, problem):
        ties = KeyedTies(seed, problem)
        return [tuple(ties.choose(10, 4)) for _ in range(20)]

    assert drawn(0, 3) == drawn(0, 3) != drawn(0, 4) != drawn(1, 3)
    ties, counted = KeyedTies(0, 0), Counter[int]()
    for _ in range(4000):
        counted.update(ties.choose(4, 2))
    assert all(abs(count - 2000) < 160 for count in counted.values())


def test_costs_add_up():
    cost = Cost(asked=1, generated=2, prefilled=3, computed_again=4, read=5) + Cost(1, 1, 1, 1, 1)
    assert cost == Cost(2, 3, 4, 5, 6)
    assert cost.flops(policy=10, scorer=100) == 2 * 10 * (3 + 4 + 5) + 2 * 100 * 6


def searched():
    def words(prefix):
        return {1: 0.4, 2: 0.3, 3: 0.2, 9: 0.1 + 0.0 * len(prefix)}

    explorer = Explorer()
    world = TableWorld(words, frozenset({9}), lambda p: sum(p) % 7 / 7, longest=6)
    run(puct_search(explorer, Puct(80, 4), FIRST), world)
    return explorer.tree


def test_a_tree_comes_back_from_json():
    tree = searched()
    rows = json.loads(json.dumps(tree.to_json([str(node.tokens) for node in tree.nodes])))
    again = Tree.from_json(rows)
    assert rows[0]["parent"] == -1 and len(again) == len(tree)
    for i, node in enumerate(tree.nodes):
        other = again[i]
        assert (other.parent, other.tokens, other.end, other.count) == (node.parent, node.tokens, node.end, node.count)
        assert (other.number, other.others) == (node.number, node.others)
        assert other.children == node.children and other.visits == node.visits
        assert again.q(i) == pytest.approx(tree.q(i), abs=1e-6) and again.prefix(i) == tree.prefix(i)
    for wrong in ([{**rows[0], "parent": 3}], [rows[0], {"parent": 0}], [rows[0], {**rows[1], "end": "never"}]):
        with pytest.raises(ValueError, match="tree: node"):
            Tree.from_json(wrong)


def test_equal_continuations_are_one_node():
    tree, one = Tree(), Sampled((1, 2), (-1.0, -0.5), End.STEP)
    assert tree.add(0, one, 0) == tree.add(0, one, 1) == 1
    assert tree[1].count == 2 and tree[1].number == 0 and tree[1].logprob == -1.5 and len(tree) == 2
    assert tree.fresh(2) == (0, 1) and tree.fresh(1) == (2,)
    with pytest.raises(UserError, match="more than 32768 lines"):
        tree.fresh(1 << 15)


def test_shares_of_visits_are_the_targets():
    tree = searched()
    targets = list(visit_shares(tree, least=4))
    assert targets[0].prefix == () and targets[0].visits == 80
    for target in targets:
        assert sum(target.shares) == pytest.approx(1) and target.visits >= 4
        assert len(target.steps) == len(target.shares) and all(target.shares)
    visits = {tree[child].tokens: tree[child].visits for child in tree[0].children if tree[child].visits}
    assert dict(zip(targets[0].steps, targets[0].shares, strict=True)) == {k: v / 80 for k, v in visits.items()}


def test_the_best_right_responses_and_the_values_of_their_steps():
    tree = searched()
    ended = tree.ended()
    right = set(ended[::2])
    chosen = best_right(tree, right, most=2)
    assert len(chosen) == 2 and set(chosen) <= right

    def worth(node):
        path = tree.path(node)[1:]
        return sum(tree.q(i) if tree[i].visits else tree[i].value or 0.0 for i in path) / len(path)

    assert worth(chosen[0]) == max(worth(node) for node in right)
    like = LabelledSolution("what", ("a",), answer="1", id="p", extra={"prompt_tokens": [5]})
    records = value_records(like, tree, right, lambda tokens: [str(t) for t in tokens])
    assert len(records) == len(ended)
    for record, node in zip(records, ended, strict=True):
        path = tree.path(node)[1:]
        expected = [round(tree.q(i), 6) if tree[i].visits else None for i in path[:-1]]
        assert record.kind == "value" and record.correct == (node in right) == bool(record.values[-1])
        assert list(record.values[:-1]) == pytest.approx(expected)
        assert record.extra["prompt_tokens"] == [5] and LabelledSolution.from_json(record.to_json()) == record


def test_a_search_asks_the_same_again():
    logs = []
    for _ in range(2):
        world = TableWorld(lambda prefix: {1: 0.5, 9: 0.5}, frozenset({9}), longest=5)
        run(best_of(Explorer(), 5), world)
        logs.append(world.log)
    assert logs[0] == logs[1]

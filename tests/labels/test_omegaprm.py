"""Binary search for first errors: exact on every place, few completions, and the tree's choice of rollouts."""

import math

import pytest
from labels.chains import Script, chain, demonstrations, run_alone, solution, splitter, text_of, tokenizer

from stepjax.data.schema import LabelledSolution
from stepjax.judges.cost import Cost
from stepjax.labels.monte_carlo import Completions, monte_carlo
from stepjax.labels.omegaprm import Tree, TreeSearch, omegaprm
from stepjax.labels.solution import Completion, Solution
from stepjax.studies.chain_completer import ChainCompleter
from stepjax.tasks.base import Problem

PROBLEM = Problem("p", "a=1;b=a+1;?b\n", "2")


def lines(count: int) -> str:
    return "\n".join([*(f"b={k % 10}" for k in range(count - 1)), "?7"])


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13])
def test_every_place_of_the_first_error_is_found(count):
    for error in range(count):
        one = solution(PROBLEM, lines(count), correct=False)
        reachable = {one.prefix(k).tokens for k in range(error + 1)}
        script = Script(lambda prefix, number, ok=reachable: prefix.tokens in ok and number == 3)
        (found,) = run_alone(omegaprm([one], TreeSearch(4), None), script)
        assert found.first_error == error
        assert found.ratings == tuple(1 if k < error else -1 for k in range(count))
        assert len(script.asked) <= math.ceil(math.log2(count)) if count > 1 else not script.asked
        assert (
            Cost.from_json(found.extra["cost"]).completions
            == script.completions
            == sum(c or 0 for c in found.completions)
        )


def test_soft_labels_are_the_values_of_visited_prefixes():
    one = solution(PROBLEM, lines(8), correct=False)
    reachable = {one.prefix(k).tokens for k in range(4)}
    script = Script(lambda prefix, number: prefix.tokens in reachable and number < 3)
    (found,) = run_alone(omegaprm([one], TreeSearch(4), None, "soft"), script)
    assert found.values == (None, 0.75, 0.75, 0.0, None, None, None, 0.0)  # bisected at 4, 2, 3; the outcome
    assert found.first_error == 3 and found.kind == "value" and set(found.ratings) == {None}


def test_a_right_answer_costs_nothing_and_a_cut_off_solution_is_tried_first():
    script = Script(lambda prefix, number: True)
    (found,) = run_alone(omegaprm([solution(PROBLEM, lines(5), correct=True)], TreeSearch(4), None), script)
    assert found.first_error == -1 and found.ratings == (1,) * 5 and not script.asked
    cut = solution(PROBLEM, lines(5)[:-3], correct=False, finished=False)
    (found,) = run_alone(omegaprm([cut], TreeSearch(4), None), script)
    assert found.first_error == -1 and script.completions == 4 and found.correct is None


def test_a_shared_prefix_is_paid_for_once():
    some = [solution(PROBLEM, lines(8), correct=False, name=str(i)) for i in range(3)]
    script = Script(lambda prefix, number: len(prefix.tokens) < 12)
    found = run_alone(omegaprm(some, TreeSearch(4), None), script)
    costs = [Cost.from_json(r.extra["cost"]).completions for r in found]
    assert costs[0] == script.completions > 0 and costs[1:] == [0, 0]
    assert found[1].completions == found[0].completions  # what the labels rest on is the same
    assert len({r.first_error for r in found}) == 1


def test_the_score_of_a_rollout_is_the_papers():
    rule = TreeSearch()
    assert rule.exploit(0.25, 100) == pytest.approx(0.5**0.75 * 0.9 ** (100 / 500))
    assert rule.spread(3, 16) == pytest.approx(0.125 * 4 / 4)
    assert rule.exploit(1.0, 0) == 1.0 and rule.spread(0, 0) == 0.0
    assert (rule.count, rule.searches) == (8, 0)


def read_back(prefix, completion: Completion, name: str) -> Solution:
    tokens = (*prefix.tokens, *completion.tokens)
    steps = tuple(text.strip() for text in splitter().texts(tokens))
    record = LabelledSolution(prefix.problem.prompt, steps, id=name)
    index, _ = splitter().split_host(tokens)
    return Solution(record, prefix.problem, prefix.prompt, tokens, index, completion.finished, completion.correct)


def test_the_tree_searches_the_best_wrong_rollout_next():
    one = solution(PROBLEM, lines(3), correct=False)
    tree = Tree([one], TreeSearch(4, searches=9), read_back)
    script = Script(lambda prefix, number: number < (1 if prefix.tokens else 3))
    run_alone(tree.value(one, 0), script)  # MC 3/4: one wrong rollout
    run_alone(tree.value(one, 1), script)  # MC 1/4: three wrong ones
    assert len(tree.candidates) == 4
    chosen = tree.best()
    assert chosen[0] == () and tree.nodes[()].visits == 1  # the higher value goes first
    chosen = tree.best()
    assert chosen[0] == one.prefix(1).tokens and tree.nodes[chosen[0]].visits == 1
    assert [tree.best() is None for _ in range(3)] == [False, False, True]


def test_searched_rollouts_become_labelled_solutions():
    task = chain(6, false=0.3)
    some = demonstrations(8, task)
    wrong = next(s for s in some if not s.correct)
    complete = ChainCompleter(task, tokenizer(), error=0.3)
    found = run_alone(omegaprm([wrong], TreeSearch(8, searches=5), read_back), complete)
    assert 2 <= len(found) <= 6
    assert [r.id for r in found[1:]] == [f"{wrong.record.id}/tree/{r.id.rsplit('/', 1)[1]}" for r in found[1:]]
    total = sum(Cost.from_json(r.extra["cost"]).completions for r in found)
    assert total == complete.sampled and total % 8 == 0
    for record in found[1:]:
        truth = [j.correct for j in task.rate_steps(wrong.problem, record.steps)]
        assert record.correct is False and record.first_error >= truth.index(False)
    again = run_alone(
        omegaprm([wrong], TreeSearch(8, searches=5), read_back), ChainCompleter(task, tokenizer(), error=0.3)
    )
    assert again == found


def test_it_needs_fewer_completions_than_monte_carlo_for_the_same_places():
    task = chain(8, false=0.15)
    some = demonstrations(60, task)
    places, used = {}, {}
    for name in ("monte_carlo", "omegaprm"):
        complete = ChainCompleter(task, tokenizer(), error=0.05)
        rows = [
            run_alone(monte_carlo(s, Completions(8)), complete)
            if name == "monte_carlo"
            else run_alone(omegaprm([s], TreeSearch(8), None), complete)[0]
            for s in some
        ]
        places[name], used[name] = [r.first_error for r in rows], complete.sampled
    assert used["omegaprm"] < used["monte_carlo"] / 3
    same = sum(a == b for a, b, s in zip(*places.values(), some, strict=True) if not s.correct)
    assert same >= 0.8 * sum(not s.correct for s in some)


def test_advances_only_where_both_neighbours_were_visited():
    one = solution(PROBLEM, lines(4), correct=False)
    script = Script(lambda prefix, number: len(prefix.tokens) <= len(one.prefix(1).tokens) and number == 0)
    (found,) = run_alone(omegaprm([one], TreeSearch(4), None, "advances"), script)
    assert found.ratings == (0, -1, None, None) and text_of(one.prefix(2)) == "b=0\nb=1\n"

"""Monte Carlo labels against a plain loop, and the adaptive number of completions."""

from labels.chains import Script, chain, demonstrations, run_alone, solution, text_of, tokenizer

from stepjax.drive import drive
from stepjax.judges.cost import Cost
from stepjax.labels.monte_carlo import Completions, advances, monte_carlo
from stepjax.labels.solution import Request
from stepjax.measures.intervals import wilson, z_of
from stepjax.studies.chain_completer import ChainCompleter
from stepjax.studies.remembered import Remembered
from stepjax.tasks.base import Problem

PROBLEM = Problem("test/0", "a=1;b=a+1;c=b+1;?c\n", "3")
TEXT = "b=1+1=2\nc=2+1=4\n?4"


def share(prefix, number):
    """Right 3 of 4 times after one step, never after two, every other time before the first."""
    lines = text_of(prefix).count("\n")
    return {0: number % 2 == 0, 1: number % 4 != 3}.get(lines, False)


def test_hard_soft_and_advances_by_hand():
    one = solution(PROBLEM, TEXT, correct=False)
    found = {kind: run_alone(monte_carlo(one, Completions(8), kind), Script(share)) for kind in ("hard", "soft")}
    assert found["hard"].ratings == (1, -1, -1) and found["hard"].first_error == 1
    assert found["soft"].values == (0.75, 0.0, 0.0) and found["soft"].ratings == (None,) * 3
    assert found["hard"].completions == (8, 8, 0) and found["hard"].tokens == (24, 24, 0)
    assert found["hard"].kind == found["soft"].kind == "value"
    assert Cost.from_json(found["hard"].extra["cost"]) == Cost(16, 48)
    assert found["hard"].extra["label"]["right_of"] == [[6, 8], [0, 8], None]
    moved = run_alone(monte_carlo(one, Completions(8), "advances"), Script(share))
    assert moved.kind == "step" and moved.ratings == (1, -1, 0)  # 0.5 → 0.75 → 0 → 0
    assert Cost.from_json(moved.extra["cost"]).completions == 24
    calm = run_alone(monte_carlo(one, Completions(8), "advances", margin=0.25), Script(share))
    assert calm.ratings == (0, -1, 0)


def test_the_outcome_is_the_last_label_and_a_cut_off_step_is_completed():
    right = run_alone(monte_carlo(solution(PROBLEM, TEXT, correct=True), Completions(4), "soft"), Script(share))
    assert right.values == (0.75, 0.0, 1.0) and right.correct is True
    script = Script(lambda prefix, number: True)
    part = solution(PROBLEM, "b=1+1=2\nc=2", correct=False, finished=False)
    cut = run_alone(monte_carlo(part, Completions(4)), script)
    assert cut.completions == (4, 4) and cut.correct is None and cut.ratings == (1, 1)
    assert sorted(len(tokens) for tokens, *_ in script.asked) == [8, 11]


def test_a_prefix_is_the_tokens_themselves():
    one = solution(PROBLEM, TEXT, correct=False)
    assert [text_of(one.prefix(k)) for k in range(4)] == ["", "b=1+1=2\n", "b=1+1=2\nc=2+1=4\n", TEXT]
    assert one.prefix(3).tokens == one.tokens and one.prefix(2).tokens == one.tokens[:16]


def test_adaptive_sampling_stops_when_the_interval_is_narrow():
    one = solution(PROBLEM, TEXT, correct=False)
    rule = Completions(4, interval=0.5, most=20, confidence=0.9)
    found = run_alone(monte_carlo(one, rule, "soft"), Script(share))

    def width(k, total):
        low, high = wilson(sum(share(one.prefix(k), n) for n in range(total)), total, z_of(0.9))
        return high - low

    for k, total in ((1, found.completions[0]), (2, found.completions[1])):
        assert width(k, total) <= 0.5 and (total == 4 or width(k, total - 4) > 0.5)
    assert found.completions[0] > found.completions[1]  # an even share needs more than a clear one
    bounded = run_alone(monte_carlo(one, Completions(4, interval=0.01, most=10), "soft"), Script(share))
    assert bounded.completions == (10, 10, 0)


def test_labels_do_not_depend_on_what_is_labelled_beside():
    task = chain(4, false=0.3)
    some = demonstrations(12, task)
    alone = [run_alone(monte_carlo(s, Completions(4)), ChainCompleter(task, tokenizer(), error=0.2)) for s in some]
    sizes = []

    def counted(requests):
        sizes.append(sum(r.count for r in requests))
        return complete(requests)

    complete = ChainCompleter(task, tokenizer(), error=0.2)
    together = list(drive((monte_carlo(s, Completions(4)) for s in some), counted, enough=40, weight=lambda r: r.count))
    assert sorted(together, key=lambda r: r.id) == sorted(alone, key=lambda r: r.id)
    assert sizes[0] >= 40 and len(sizes) < len(some)  # rounds are full


def test_a_strong_completer_finds_the_first_error_and_a_value_is_its_chance():
    task = chain(4, false=0.25)
    some = demonstrations(60, task)
    exact = ChainCompleter(task, tokenizer(), error=0.0)
    agree = 0
    for one in some:
        truth = next((k for k, j in enumerate(task.rate_steps(one.problem, one.record.steps)) if not j.correct), -1)
        found = run_alone(monte_carlo(one, Completions(1)), exact)
        assert found.first_error == -1 or found.first_error >= truth >= 0
        agree += found.first_error == truth
    assert agree >= 0.9 * len(some)  # two errors may cancel
    noisy = ChainCompleter(task, tokenizer(), error=0.3)
    right = [c.correct for s in some[:40] for c in noisy([Request(s.prefix(0), 50)])[0]]
    assert 0.7**4 - 0.03 < sum(right) / len(right) < 0.7**4 + 0.1  # a little luck beyond


def test_remembered_completions_are_sampled_once():
    script = Script(share)
    remembered = Remembered(script)
    one = solution(PROBLEM, TEXT, correct=False)
    prefix = one.prefix(1)
    first = remembered([Request(prefix, 2), Request(prefix, 3)])
    assert script.completions == 3 and first[0] == first[1][:2]
    again = remembered([Request(prefix, 2, 2), Request(prefix, 1)])
    assert script.completions == 4 and again[1] == first[0][:1]
    assert [c.correct for c in again[0]] == [share(prefix, 2), share(prefix, 3)]


def test_advances_needs_one_value_more_than_steps():
    assert advances([0.5, 0.75, 0.75, 0.0]) == [1, 0, -1]
    assert advances([0.1 + 0.2, 0.3]) == [0]
    assert advances([0.5]) == []

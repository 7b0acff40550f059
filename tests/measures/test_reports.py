"""The composed reports against scikit-learn and plain loops."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepjax.measures.agreement import LabelPair, agreement_report
from stepjax.measures.best_of_n import Pool, best_of_n_report
from stepjax.measures.prmbench import prm_score, prmbench_report
from stepjax.measures.step_scores import MOST_POSITIONS, ScoredSolution, step_score_report

ratings = st.sampled_from([-1, 0, 1, None])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.tuples(ratings, ratings), min_size=1, max_size=13), min_size=1, max_size=6))
def test_agreement_is_scikit_learns(solutions):
    metrics = pytest.importorskip("sklearn.metrics")
    report = agreement_report([LabelPair([f for f, _ in s], [g for _, g in s]) for s in solutions])
    rows = [(k, f, g) for s in solutions for k, (f, g) in enumerate(s) if f is not None and g is not None]
    assert report["steps"] == len(rows)
    assert report["unlabelled"] == sum(f is None and g is not None for s in solutions for f, g in s)
    assert sum(row["steps"] for row in report["by_position"]) == len(rows)
    if not rows:
        assert np.isnan(report["three"]["accuracy"])
        return
    position, found, gold = (np.array(x) for x in zip(*rows, strict=True))
    assert report["three"]["macro_f1"] == pytest.approx(metrics.f1_score(gold, found, average="macro"))
    assert report["three"]["confusion"] == metrics.confusion_matrix(gold, found, labels=[-1, 0, 1]).tolist()
    assert report["two"]["accuracy"] == pytest.approx(np.mean((gold >= 0) == (found >= 0)))
    kappa = report["three"]["kappa"]
    if len({*gold, *found}) > 1:
        assert kappa == pytest.approx(metrics.cohen_kappa_score(gold, found), abs=1e-12)
    last = [row for row in report["by_position"] if row["position"] == MOST_POSITIONS]
    assert (last[0]["steps"] if last else 0) == np.sum(position >= MOST_POSITIONS)


def test_first_errors_of_labels_and_what_they_cost():
    pairs = [
        LabelPair([1], [1], 0, 0, completions=[8], tokens=[100]),
        LabelPair([1], [1], -1, 0, completions=[None], tokens=[50]),
        LabelPair([1], [1], -1, -1),
        LabelPair([1], [1], None, -1),
    ]
    report = agreement_report(pairs)
    assert report["first_error"]["solutions"] == 3
    assert report["first_error"]["error"] == 0.5 and report["first_error"]["correct"] == 1.0
    assert report["first_error"]["has_error"] == pytest.approx(2 / 3)
    assert report["cost"] == {"completions": {"labels": 1, "each": 8.0}, "tokens": {"labels": 2, "each": 75.0}}
    nothing = agreement_report([])
    assert nothing["steps"] == 0 and "first_error" not in nothing and nothing["by_position"] == []


def random_solutions(rng, count=60):
    found = []
    for i in range(count):
        steps = int(rng.integers(1, 5))
        classes = rng.dirichlet(np.ones(3), steps)
        rating = [None if rng.random() < 0.1 else int(r) for r in rng.integers(-1, 2, steps)]
        known = [r for r in rating if r is not None]
        wrong = [k for k, r in enumerate(rating) if r == -1]
        found.append(
            ScoredSolution(
                right=1 - classes[:, 0],
                rating=rating,
                value=rng.random(steps).tolist() if i % 2 else (),
                first_error=(wrong[0] if wrong else -1) if len(known) == steps else None,
                outcome=bool(rng.random() < 0.5) if i % 3 else None,
                classes=classes,
                tuning=i % 4 == 0,
            )
        )
    return found


def test_a_reward_models_report_is_scikit_learns():
    metrics = pytest.importorskip("sklearn.metrics")
    solutions = random_solutions(np.random.default_rng(0))
    report = step_score_report(solutions)
    rows = [(p, r) for s in solutions for p, r in zip(s.right, s.rating, strict=True) if r is not None]
    p, truth = np.array([p for p, _ in rows]), np.array([r >= 0 for _, r in rows])
    assert report["steps"]["auc"] == pytest.approx(metrics.roc_auc_score(truth, p))
    assert report["steps"]["brier"] == pytest.approx(metrics.brier_score_loss(truth, p))
    pairs = [
        (r, int(c.argmax()) - 1) for s in solutions for r, c in zip(s.rating, s.classes, strict=True) if r is not None
    ]
    gold, found = zip(*pairs, strict=True)
    assert report["classes"]["macro_f1"] == pytest.approx(metrics.f1_score(gold, found, average="macro"))
    assert report["classes"]["kappa"] == pytest.approx(metrics.cohen_kappa_score(gold, found))
    ended = [s for s in solutions if s.outcome is not None]
    for how, of in {"min": np.min, "product": np.prod, "last": lambda x: x[-1], "mean": np.mean}.items():
        expected = metrics.roc_auc_score([s.outcome for s in ended], [of(s.right) for s in ended])
        assert report["outcome"]["auc"][how] == pytest.approx(expected)
    valued = [(p, v) for s in solutions if s.value for p, v in zip(s.right, s.value, strict=True)]
    p, v = np.array(valued).T
    assert report["values"]["auc"] == pytest.approx(metrics.roc_auc_score(v >= 0.5, p))
    assert report["values"]["mean_difference"] == pytest.approx(np.abs(p - v).mean())
    placed = [s for s in solutions if s.first_error is not None]
    rest = [s for s in placed if not s.tuning]
    first = report["first_error"]
    assert first["fixed"]["wrong"] + first["fixed"]["right"] == len(placed)
    assert first["tuned"]["wrong"] + first["tuned"]["right"] == len(rest) and first["tuned"]["tuned_on"] > 0


def test_what_is_not_known_has_no_part():
    assert step_score_report([ScoredSolution(np.array([0.5]), [None])]) == {"solutions": 1}
    one = step_score_report([ScoredSolution(np.array([0.5]), [1])])
    assert np.isnan(one["steps"]["auc"]) and one["steps"]["share"] == 1.0 and "classes" not in one


def test_tuning_sees_its_own_part_alone():
    """The rest could not be judged worse: its scores are upside down."""
    good = [ScoredSolution(np.array([0.3]), [-1], first_error=0), ScoredSolution(np.array([0.4]), [1], first_error=-1)]
    tuning = [ScoredSolution(s.right, s.rating, first_error=s.first_error, tuning=True) for s in good]
    rest = [ScoredSolution(1 - s.right, s.rating, first_error=s.first_error) for s in good]
    found = step_score_report([*tuning, *rest])["first_error"]
    assert found["tuned"]["threshold"] == pytest.approx(0.35)
    assert found["tuned"]["error"] == 0.0 and found["tuned"]["correct"] == 1.0 and found["tuned"]["f1"] == 0.0
    assert found["fixed_on_rest"]["wrong"] == 1


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_prm_score_is_scikit_learns(rows):
    metrics = pytest.importorskip("sklearn.metrics")
    found, wrong = (np.array(x) for x in zip(*rows, strict=True))
    score = prm_score(found.tolist(), wrong.tolist())
    for name, label in (("f1", 0), ("negative_f1", 1)):
        if label in found or label in wrong:
            assert score[name] == pytest.approx(metrics.f1_score(wrong, found, pos_label=label, zero_division=0))
        else:
            assert np.isnan(score[name])
    both = (score["f1"] + score["negative_f1"]) / 2
    assert score["prm_score"] == pytest.approx(both, nan_ok=True)


def test_prmbench_keeps_truth_and_usefulness_apart():
    scores = [np.array([0.9, 0.2]), np.array([0.9, 0.9, 0.1]), np.array([0.1, 0.9])]
    errors = [[False, True], [False, True, True], [False, False]]
    report = prmbench_report(scores, errors, ["confidence", "circular", "correct"])
    assert report["kinds"]["confidence"] == {
        "solutions": 1, "steps": 2, "f1": 1.0, "negative_f1": 1.0, "prm_score": 1.0, "first_error": 1.0,
    }  # fmt: skip
    assert report["kinds"]["circular"]["first_error"] == 0.0
    assert report["usefulness"]["steps"] == 3 and report["truth"]["steps"] == 2 and report["all"]["steps"] == 5
    assert np.isnan(report["kinds"]["correct"]["first_error"]), "solutions without an error are not asked"
    assert report["kinds"]["correct"]["f1"] == pytest.approx(2 / 3), "and stay out of the totals"


def test_curves_are_a_brute_force_loops():
    rng = np.random.default_rng(1)
    pools = [
        Pool(
            right=rng.random(4) < 0.5,
            answers=np.array([0, 1, 1, -1]),
            scores=[rng.integers(1, 4, 2) / 4 for _ in range(4)],
            steps=rng.integers(1, 5, 4),
        )
        for _ in range(5)
    ]
    report = best_of_n_report(pools, resamples=4000)
    assert report["sizes"] == [1, 2, 4]
    for how, of in {"min": np.min, "product": np.prod, "last": lambda x: x[-1], "mean": np.mean}.items():
        for k, size in enumerate(report["sizes"]):
            best, weighted, steps = [], [], []
            for pool in pools:
                scores = [of(s) for s in pool.scores]
                for subset in combinations(range(4), size):
                    top = [i for i in subset if scores[i] == max(scores[j] for j in subset)]
                    best.append(np.mean([pool.right[i] for i in top]))
                    steps.append(np.mean([pool.steps[i] for i in top]))
                    votes = {a: sum(scores[i] for i in subset if pool.answers[i] == a) for a in (0, 1)}
                    winners = [a for a in votes if votes[a] == max(votes.values()) and votes[a] > 0]
                    worth = [pool.right[pool.answers == a].mean() for a in winners]
                    weighted.append(np.mean(worth) if winners else 0.0)
            assert report["curves"][f"best/{how}"]["mean"][k] == pytest.approx(np.mean(best))
            assert report["steps"][how][k] == pytest.approx(np.mean(steps))
            assert report["curves"][f"weighted/{how}"]["mean"][k] == pytest.approx(np.mean(weighted), abs=0.02)
    again = best_of_n_report(pools, resamples=4000)
    assert again == report, "one seed, one report"


def test_pools_of_different_sizes_are_refused():
    one = Pool(np.ones(1), np.zeros(1, int), [np.ones(1)], np.ones(1))
    two = Pool(np.ones(2), np.zeros(2, int), [np.ones(1)] * 2, np.ones(2))
    for pools in ([one, two], []):
        with pytest.raises(ValueError, match="one size"):
            best_of_n_report(pools)
    assert best_of_n_report([one])["curves"]["best/min"]["mean"] == [1.0]

"""The study of reward models in other worlds: its figures against plain loops, its runs, its tables."""

import json

import numpy as np
import pytest

from stepjax.evaluation.records import is_tuning
from stepjax.measures.best_of_n import Pool, best_of_n_report
from stepjax.studies.generalise_study import COUNTDOWN, KINDS, OWN, STUDY, WORLDS, guessed
from stepjax.studies.study import Arm, Plan
from stepjax.studies.study_jobs import units_of
from stepjax.studies.transfer_measures import (
    TUNING,
    read_solutions,
    score_figures,
    scored,
    selection_figures,
    truth_of,
)


def row_of(rating, prm, *, correct=True, unfinished=False, prompt="a=1;?a\n"):
    extra = {"step_ratings": rating, "prompt": prompt} | ({} if prm is None else {"prm": prm})
    return {"correct": correct, "extra": extra | ({"unfinished": True} if unfinished else {})}


@pytest.fixture(scope="module")
def rows():
    """Made-up responses of one to six steps, some cut off, with scores that tell a little."""
    rng = np.random.default_rng(3)
    found = []
    for i in range(400):
        rating = rng.choice([-1, 0, 1], size=rng.integers(1, 7), p=[0.25, 0.15, 0.6]).tolist()
        prm = [round(float(np.clip(0.5 + 0.2 * x + rng.normal(0, 0.3), 0, 1)), 2) for x in rating]
        correct, unfinished = bool(rng.random() < 0.5), bool(rng.random() < 0.2)
        found.append(row_of(rating, prm, correct=correct, unfinished=unfinished, prompt=f"{i % 90}"))
    return found


def test_what_a_score_is_held_against():
    of = scored(row_of([1, -1, 1, 0], [0.9, 0.2, 0.8, 0.7]))
    assert truth_of(of, "step").tolist() == [True, False, True, True]
    assert truth_of(of, "prefix").tolist() == [True, False, False, False]
    assert truth_of(of, "value").tolist() == [True] * 4 and of.first_error == 1
    cut = scored(row_of([1, -1], [0.9, 0.2], correct=False, unfinished=True))
    assert cut.rating == [1, None] and cut.first_error == -1, "a step that was cut off is none"
    assert truth_of(cut, "value").tolist() == [False, False]


@pytest.mark.parametrize("target", KINDS)
def test_areas_are_those_of_another_implementation(rows, target):
    roc_auc_score = pytest.importorskip("sklearn.metrics").roc_auc_score
    found = score_figures([scored(row) for row in rows], target)
    scores, right, first, own = [], [], [], []
    for row in rows:
        failed = False
        for k, (rating, p) in enumerate(zip(row["extra"]["step_ratings"], row["extra"]["prm"], strict=True)):
            if row["extra"].get("unfinished") and k == len(row["extra"]["prm"]) - 1:
                continue
            scores.append(p)
            right.append(rating >= 0)
            first.append(not failed)
            failed |= rating < 0
            own.append({"step": rating >= 0, "prefix": not failed, "value": row["correct"]}[target])
    scores, right, first = np.array(scores), np.array(right), np.array(first)
    assert found["auc"] == pytest.approx(roc_auc_score(right, scores))
    assert found["auc_first"] == pytest.approx(roc_auc_score(right[first], scores[first]))
    assert found["auc_own"] == pytest.approx(roc_auc_score(own, scores))


def test_first_errors_by_hand(rows):
    found = score_figures([scored(row) for row in rows], "step")

    def f1(threshold, some):
        hits = {True: [], False: []}
        for row in some:
            rating = row["extra"]["step_ratings"][: -1 if row["extra"].get("unfinished") else None]
            wrong = [k for k, x in enumerate(rating) if x < 0]
            below = [k for k, p in enumerate(row["extra"]["prm"]) if p < threshold]
            hits[bool(wrong)].append((below or [-1])[0] == (wrong or [-1])[0])
        a, b = (np.mean(hits[kind]) for kind in (True, False))
        return 2 * a * b / (a + b)

    assert found["f1"] == pytest.approx(f1(0.5, rows))
    tuning = [row for row in rows if is_tuning(row["extra"]["prompt"], TUNING)]
    rest = [row for row in rows if not is_tuning(row["extra"]["prompt"], TUNING)]
    grid = np.arange(-0.005, 1.02, 0.01)  # between all scores, which have two digits
    tuned = {x: f1(x, tuning) for x in grid}
    best = [f1(x, rest) for x in grid if tuned[x] == max(tuned.values())]
    assert tuning and min(best) - 1e-9 <= found["f1_tuned"] <= max(best) + 1e-9


def test_responses_that_were_not_read_have_no_scores(tmp_path):
    path = tmp_path / "responses.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (row_of([1], [0.5]), row_of([1, -1], None))))
    (only,) = read_solutions(path)
    assert only.right.tolist() == [0.5]


def test_selection_by_hand():
    rng = np.random.default_rng(0)
    pools, least, last = [], [], []
    for _ in range(20):
        scores = [rng.random(rng.integers(1, 4)) for _ in range(4)]
        right = rng.random(4) < 0.5
        pools.append(Pool(right, np.where(right, 0, 1), scores, np.ones(4, int)))
        least.append(right[np.argmax([s.min() for s in scores])])
        last.append(right[np.argmax([s[-1] for s in scores])])
    report = best_of_n_report(pools, resamples=10)
    one, whole = np.mean([p.right for p in pools]), np.mean([p.right.any() for p in pools])
    for how, best in (("min", np.mean(least)), ("last", np.mean(last))):
        found = selection_figures(report, how)
        assert found["closed"] == pytest.approx((best - one) / (whole - one))
        assert found[f"best_{how}"] == pytest.approx(best)
    assert found["accuracy"] == pytest.approx(one) and found["any"] == pytest.approx(whole)
    votes = np.mean([(p.right.sum() > 2) + 0.5 * (p.right.sum() == 2) for p in pools])
    assert found["majority"] == pytest.approx(votes)


def test_guesses_in_countdown_are_right_as_often_as_random_moves():
    def share(values, target):
        if len(values) == 1:
            return float(values[0] == target)
        found = set()
        for i, x in enumerate(values):
            for j, y in enumerate(values):
                rest = sorted(v for k, v in enumerate(values) if k not in (i, j))
                if i != j:
                    found |= {(min(x, y), "+", max(x, y), (x + y) % 10, *rest), (x, "-", y, (x - y) % 10, *rest)}
        return np.mean([share(move[3:], target) for move in found])

    task = {"name": "countdown", "countdown": {"operators": "+-", "numbers": (3, 3)}}
    prompts = ["a=3;b=5;c=8;?4\n", "a=1;b=1;c=1;?3\n"]
    expected = np.mean([share((3, 5, 8), 4), share((1, 1, 1), 3)])
    assert guessed(task, prompts) == pytest.approx(expected) and 0 < expected < 1
    assert guessed({"name": "register_chain", "register_chain": {"modulus": 5}}, prompts) == 0.2


def test_each_world_has_one_policy_and_each_reward_model_is_of_the_own_world(tmp_path):
    whole = STUDY.plan(False)
    assert set(whole.shared) == {f"sft-{world}" for world in WORLDS}
    assert set(whole.bases) == {f"prm-{kind}" for kind in KINDS}
    assert {(arm.row, arm.column) for arm in whole.arms} == {(kind, world) for kind in KINDS for world in WORLDS}
    kinds, worlds = ("prefix", "value"), (OWN, COUNTDOWN)
    plan = Plan(
        [arm for arm in whole.arms if arm.row in kinds and arm.column in worlds],
        {name: of for name, of in whole.bases.items() if name.partition("-")[2] in kinds},
        {name: of for name, of in whole.shared.items() if name.partition("-")[2] in worlds},
    )
    units = {unit.job.name: unit for unit in units_of(STUDY, plan, tmp_path, [3], False)}
    assert len(units) == 8 and not any("{" in word for unit in units.values() for word in unit.job.argv)
    for kind in kinds:
        learned = units[f"prm-{kind}, seed 3"]
        assert f"--config.base={units[f'sft-{OWN}, seed 0'].workdir}" in learned.job.argv
        assert learned.job.after == [units[f"sft-{OWN}, seed 0"].job]
        for world in worlds:
            policy, unit = units[f"sft-{world}, seed 0"], units[f"{kind}-{world}, seed 3"]
            assert {f"--config.base={policy.workdir}", f"--config.prm.run={learned.workdir}"} <= set(unit.job.argv)
            assert set(map(id, unit.job.after)) == {id(policy.job), id(learned.job)}
            same = [word for word in policy.job.argv if word.startswith("--config.task.")]
            assert same == [word for word in unit.job.argv if word.startswith("--config.task.")]


def test_what_is_lost_is_paired_by_seed():
    rng = np.random.default_rng(1)
    found = {
        Arm(kind, world): {seed: {"auc_first": float(rng.random())} for seed in range(4)}
        for kind in KINDS
        for world in (OWN, COUNTDOWN)
    }
    found[Arm("value", COUNTDOWN)].pop(2)
    (title, columns, rows), *_ = STUDY.tables(found)
    assert "AUC of scores" in title and columns == ["reward model", f"world = {COUNTDOWN}"]
    at = {(arm.row, arm.column): {s: f["auc_first"] for s, f in by.items()} for arm, by in found.items()}
    lost = {kind: {s: at[kind, OWN][s] - x for s, x in at[kind, COUNTDOWN].items()} for kind in KINDS}
    expected = {kind: np.mean(list(of.values())) for kind, of in lost.items()}
    for kind in ("prefix", "value"):
        expected[f"{kind} − step"] = np.mean([x - lost["step"][s] for s, x in lost[kind].items()])
    assert [row[0] for row in rows] == list(expected)
    for name, text in rows:
        assert float(text.split()[0].replace("−", "-")) == pytest.approx(expected[name], abs=6e-4)

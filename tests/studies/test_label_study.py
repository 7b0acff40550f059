"""The study of labels: its figures against a plain loop, on chains whose truth is exact."""

import numpy as np
import pytest
from labels.chains import chain, demonstrations, tokenizer

from stepjax.errors import UserError
from stepjax.labels.solution import Request
from stepjax.studies.chain_completer import ChainCompleter
from stepjax.studies.label_study import main
from stepjax.studies.label_study_figures import Rated, sizes_up_to, steps_report, study
from stepjax.studies.label_study_page import write_page
from stepjax.studies.label_study_tables import show_world


@pytest.fixture(scope="module")
def world():
    task = chain(5, false=0.2)
    rated = []
    for one in demonstrations(40, task):
        wrong = [k for k, j in enumerate(task.rate_steps(one.problem, one.record.steps)) if not j.correct]
        rated.append(Rated(one, wrong[0] if wrong else -1))
    return task, rated


@pytest.fixture(scope="module")
def found(world):
    task, rated = world
    complete = ChainCompleter(task, tokenizer(), error=0.15)
    return study(rated, complete, 8), complete.sampled


def test_every_number_shares_one_set_of_completions(world, found):
    _, rated = world
    figures, sampled = found
    assert list(figures["by_n"]) == ["1", "2", "4", "8"] == [str(n) for n in sizes_up_to(15)]
    prefixes = {j.solution.prefix(k) for j in rated for k in range(1, j.solution.steps)}
    assert sampled == 8 * len(prefixes) + 4 * len({j.solution.prompt for j in rated})


@pytest.mark.parametrize("n", [1, 8])
def test_first_errors_by_a_plain_loop(world, found, n):
    task, rated = world
    again = ChainCompleter(task, tokenizer(), error=0.15)
    hits = {"wrong": [], "right": []}
    for j in rated:
        place = -1
        for k in range(1, j.solution.steps + 1):
            last = k == j.solution.steps
            right = [j.solution.correct] if last else [c.correct for c in again([Request(j.solution.prefix(k), n)])[0]]
            if not any(right):
                place = k - 1
                break
        hits["wrong" if j.first_error >= 0 else "right"].append(place == j.first_error)
    error, correct = np.mean(hits["wrong"]), np.mean(hits["right"])
    at = found[0]["by_n"][str(n)]
    assert at["hard"]["error"] == pytest.approx(error) and at["hard"]["correct"] == pytest.approx(correct)
    assert at["hard"]["f1"] == pytest.approx(2 * error * correct / (error + correct))
    assert at["cost"]["monte_carlo"]["completions"] == n * np.mean([j.solution.steps - 1 for j in rated])
    assert at["cost"]["omegaprm"]["completions"] < at["cost"]["monte_carlo"]["completions"] / 2


def test_more_completions_reach_more_prefixes(found):
    by_n = [at["steps"]["hard"] for at in found[0]["by_n"].values()]
    for name, order in (("right_called_wrong", -1), ("wrong_called_right", 1)):
        values = [order * at[name] for at in by_n]
        assert values == sorted(values), name
    assert 0.85**5 - 0.1 < found[0]["strength"] < 0.85**5 + 0.15


def test_steps_by_hand(world):
    _, rated = world
    two = [j for j in rated if j.first_error == 1][:1] + [j for j in rated if j.first_error == -1][:1]
    values = [np.array([1.0, 0.5, *[0.0] * (two[0].solution.steps - 2)]), np.ones(two[1].solution.steps)]
    report = steps_report(two, values, 0.25)
    rest, whole = two[0].solution.steps - 1, two[1].solution.steps - 1  # the last steps are outcomes
    assert report["steps"] == rest + whole
    assert report["accuracy"] == pytest.approx((rest - 1 + whole) / (rest + whole))
    assert report["wrong_called_right"] == pytest.approx(1 / (rest - 1)) and report["right_called_wrong"] == 0
    assert report["f1_wrong"] == pytest.approx(2 * (rest - 2) / (rest - 1 + rest - 2))
    assert report["by_place"][1]["accuracy"] == 0.5


def test_tables_page_and_mistakes(found, capsys, tmp_path):
    show_world("40 solutions", {"middle": found[0]})
    chains = {"solutions": 40, "operations": 5, "completers": {"<b>": found[0]}}
    page = write_page(tmp_path / "p.html", {"solutions": 40, "completers": {"middle": found[0]}, "chains": chains})
    assert page.read_text().count('role="img"') == 6 and "<b>" not in page.read_text()
    text = capsys.readouterr().out
    assert "first errors" in text and "by place" in text and "middle" in text
    with pytest.raises(UserError, match="NAME=DIR:STAGE, the stage one of sft, improve, ppo"):
        main(["--config=quickstart", "strong"])
    with pytest.raises(UserError, match="usage"):
        main(["--config=quickstart", "strong=runs/x:sft"])

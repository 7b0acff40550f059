"""The study of credit: exact values, measures against a plain loop, rules whose figures are known, resumption."""

import dataclasses
import shutil

import numpy as np
import pytest

from stepjax.cli import main
from stepjax.errors import UserError
from stepjax.studies import credit_study
from stepjax.studies.credit_measures import Sums
from stepjax.studies.credit_rows import lay_out, rate, scored_rows, width_of
from stepjax.studies.credit_rules import make_rule
from stepjax.studies.credit_study import Size, run_study
from stepjax.studies.credit_tables import interval
from stepjax.studies.credit_writer import ANSWER, FALSE, REPAIR, RESTATE, RIGHT, Written, make_writer, write

SMALL = Size(steps=(2,), problems=32, judged=6_000)
RULES = ("exact", "outcome_return", "grpo_process", "vineppo")


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return folder, run_study(folder, [0, 1], SMALL, RULES)


@pytest.mark.parametrize("phase", ["early", "late"])
def test_values_are_those_of_many_responses(phase):
    writer = make_writer(3, phase, np.random.default_rng(0))
    right = write(writer, 40_000, np.random.default_rng(1)).right
    assert abs(right.mean() - writer.value[0, 0, 0]) < 4 * right.std() / np.sqrt(len(right))
    assert np.allclose((writer.moves * writer.advantage).sum(-1), 0)
    assert writer.quality[3, 1, 0, REPAIR] == writer.value[3, 0, 0]


def test_ratings_are_those_of_register_chain():
    move = np.array([RIGHT, RIGHT, FALSE, FALSE, RESTATE, RESTATE, REPAIR, ANSWER, ANSWER])
    error = np.array([0, 1, 0, 1, 0, 1, 1, 0, 1])
    assert rate(move, error).tolist() == [1, -1, -1, -1, 0, -1, 1, 1, -1]


def test_steps_lie_one_after_another_with_a_reply_between():
    move = np.array([[RESTATE, RIGHT, ANSWER, -1]])
    nothing = np.zeros_like(move)
    layout = lay_out(Written(move, nothing, nothing, nothing, np.array([True])), width_of(1))
    assert layout.index[0, :14].tolist() == [-1, 0, 0, 0, -1, 1, 1, 1, 1, 1, 1, -1, 2, 2]
    assert np.flatnonzero(layout.env[0]).tolist() == [4, 11]
    assert layout.last[0].tolist() == [3, 10, 13, -1] and layout.length.tolist() == [13]


def test_a_chance_that_rounding_lifts_above_1_is_1():
    rule, rng = make_rule("vineppo", 8), np.random.default_rng(3)
    writer = make_writer(2, "early", rng)
    writer = dataclasses.replace(writer, quality=np.full_like(writer.quality, 1 + 4e-16))
    written = write(writer, 16, rng)
    _, host, layout = scored_rows(rule.options, writer, written, width_of(2), rule.judges, rng)
    (paid,) = (np.asarray(x) for name, x in host.items() if name.startswith("stream/"))
    (stream,) = rule.options.streams.values()
    there = written.move >= 0
    assert np.allclose(np.take_along_axis(paid, np.maximum(layout.last, 0), 1)[there], stream.good)


def test_measures_equal_a_plain_loop():
    rng = np.random.default_rng(2)
    writer = make_writer(2, "early", rng)
    written = write(writer, 400, rng)
    weight = rng.normal(size=written.move.shape) + 2 * writer.advantage[..., 0].mean()
    sums = Sums()
    sums.add(writer, written, weight)
    cells, pairs = {}, []
    for b, s in zip(*np.nonzero(written.move >= 0), strict=True):
        state = written.derived[b, s], written.error[b, s], written.restated[b, s]
        exact = writer.advantage[(*state, written.move[b, s])]
        cells.setdefault(state, {}).setdefault(int(written.move[b, s]), []).append(weight[b, s])
        pairs.append((weight[b, s], exact))
    estimate, exact = np.array(pairs).T
    found = sums.figures(writer)
    assert found["correlation"] == pytest.approx(np.corrcoef(estimate, exact)[0, 1])
    wrong = estimate * exact < 0
    assert found["wrong_sign"] == pytest.approx(np.abs(exact[wrong]).sum() / np.abs(exact).sum())
    offsets, truths, noises, counts = [], [], [], []
    for state, moves in cells.items():
        everything = np.concatenate(list(moves.values()))
        truth = sum(len(x) * writer.advantage[(*state, m)] for m, x in moves.items()) / len(everything)
        for m, x in moves.items():
            offsets.append(np.mean(x) - everything.mean())
            truths.append(writer.advantage[(*state, m)] - truth)
            noises.append(np.var(x, ddof=1) / len(x) if len(x) > 1 else np.nan)
            counts.append(len(x))
    n, offset, truth, noise = map(np.array, (counts, offsets, truths, noises))
    slope = (n * offset * truth).sum() / (n * truth**2).sum()
    if slope <= 0:
        assert np.isnan(found["bias"])
        return
    known = n > 1
    off = (n * ((offset / slope - truth) ** 2 - noise / slope**2))[known].sum()
    assert found["bias"] == pytest.approx(np.sqrt(max(off, 0) / (n * truth**2).sum()))


def test_exact_values_give_exact_advantages(studied):
    for figures in studied[1].values():
        assert figures["exact"]["correlation"] > 0.9999 and figures["exact"]["bias"] < 1e-3
        assert figures["exact"]["deviation"] < 0.2  # how far the draws of a state's moves are from their probabilities


def test_what_is_unbiased_by_theory_has_no_bias_and_what_is_not_has_some(studied):
    for figures in studied[1].values():
        assert figures["outcome_return"]["bias"] < 0.25 and figures["outcome_return"]["deviation"] > 1
        assert figures["grpo_process"]["bias"] > figures["outcome_return"]["bias"]
        assert figures["vineppo"]["bias"] < 0.25 and figures["vineppo"]["correlation"] > 0.5


def test_a_study_goes_on_where_it_stopped(studied, tmp_path, monkeypatch):
    alone = run_study(tmp_path, [1], SMALL, RULES)
    assert alone["2/late/1"] == studied[1]["2/late/1"]
    monkeypatch.setattr(credit_study, "_measure", lambda *_: pytest.fail("measured twice"))
    assert run_study(tmp_path, [1], SMALL, RULES) == alone


def test_intervals_are_students():
    mean, half = interval(np.array([1.0, 2.0, 4.0, np.nan]))
    assert mean == pytest.approx(7 / 3) and half == pytest.approx(4.302653 * np.std([1, 2, 4], ddof=1) / np.sqrt(3))
    assert np.isnan(interval(np.array([1.0]))[1])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "stepjax study NAME"),
        (["credits"], "what is 'credits'"),
        (["credit", "--seed=3"], "what is '--seed=3'"),
        (["credit", "--seeds=5:5"], "name different whole numbers"),
        (["credit", "--seeds=a"], "name different whole numbers"),
    ],
)
def test_wrong_command_lines_are_one_line(arguments, said, capsys):
    assert main(["study", *arguments]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


def test_another_size_and_other_folders_are_refused(studied, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for folder in (studied[0], tmp_path, tmp_path / "file"):
        assert main(["study", "credit", "--quick", f"--workdir={folder}"]) == 2
        err = capsys.readouterr().err
        assert "use another --workdir" in err and err.count("\n") == 1


def test_damaged_figures_are_not_overwritten(studied, tmp_path):
    folder = shutil.copytree(studied[0], tmp_path / "run")
    (folder / "credit.json").write_text('{"2/early/0": {"grpo"')
    with pytest.raises(UserError, match=r"credit\.json is damaged"):
        run_study(folder, [0], SMALL, RULES)
    assert (folder / "credit.json").read_text().endswith('"grpo"')


def test_figures_are_those_of_the_seeds_and_rules_that_were_asked_for(studied):
    folder, found = studied
    assert run_study(folder, [1], SMALL, RULES[:1]) == {
        key: {RULES[0]: figures[RULES[0]]} for key, figures in found.items() if key.endswith("/1")
    }

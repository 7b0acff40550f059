"""Runs side by side: the same configuration in one row, mean and spread over its seeds."""

import json
import statistics
from pathlib import Path

import pytest

from stepjax.cli import main
from stepjax.report.compare import as_text, compare, differences, experiments


def write_run(folder: Path, *, seed: int, weight: float, accuracy: float, start: float = 0.4) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"seed": seed, "base": f"b{seed}", "ppo": {"weight": weight}}))
    rows = {
        "sft": {"accuracy": start, "steps": 3.0, "truncated": 0.0},
        "ppo": {"accuracy": accuracy, "trace_error": 0.01, "steps": 12.34, "truncated": 0.5},
    }
    (folder / "eval.json").write_text(json.dumps({"rows": rows}))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    return [
        write_run(tmp_path / "clip-0", seed=0, weight=1.0, accuracy=0.9),
        write_run(tmp_path / "delta-0", seed=0, weight=2.0, accuracy=0.5),
        write_run(tmp_path / "clip-1", seed=1, weight=1.0, accuracy=0.8, start=0.5),
    ]


def test_seeds_share_a_row_and_configurations_do_not(runs):
    rows = compare(experiments(runs))
    names = [("after SFT", 2), ("clip: ppo.weight=1.0", 2), ("delta: ppo.weight=2.0", 1)]
    assert [(row["name"], row["runs"]) for row in rows] == names
    mean, spread = rows[1]["figures"]["accuracy"]
    assert mean == pytest.approx(0.85) and spread == pytest.approx(statistics.stdev([0.9, 0.8]))
    assert rows[2]["figures"]["accuracy"] == (0.5, None)
    assert rows[0]["figures"]["accuracy"][0] == pytest.approx(0.45)


def test_a_number_that_is_no_seed_belongs_to_the_name(tmp_path):
    """r1 and r2 are two experiments of seed 0; only the number of the seed is left out."""
    folders = [("r1", 0, 1.0), ("r2", 0, 2.0), ("lr-3", 3, 3.0), ("x-s0", 0, 4.0), ("7", 7, 5.0)]
    runs = [write_run(tmp_path / name, seed=seed, weight=weight, accuracy=0.5) for name, seed, weight in folders]
    assert [row.name.partition(":")[0] for row in experiments(runs)] == ["r1", "r2", "lr", "x", "7"]


def test_figures_that_no_run_has_take_no_column(runs):
    lines = as_text(compare(experiments(runs)))
    assert lines[0] == ["", "runs", "right answers", "trace error", "steps", "truncated"]
    assert lines[1] == ["after SFT", "2", "45.0 ± 7.1 %", "–", "3.00 ± 0.00", "0.0 ± 0.0 %"]
    assert lines[3] == ["delta: ppo.weight=2.0", "1", "50.0 %", "1.0 %", "12.3", "50.0 %"]


def test_markdown_from_the_command(runs, capsys):
    assert main(["compare", *map(str, runs), "--markdown"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1] == "| --- | --- | --- | --- | --- | --- |" and said[3].startswith(
        "| clip: ppo.weight=1.0 | 2 | 85.0 ± 7.1 % |"
    )


@pytest.mark.parametrize("odd", [None, "null", "[]", "[" * 100_000])
def test_what_is_no_work_directory_takes_one_line(runs, capsys, odd):
    (runs[1] / "config.json").unlink() if odd is None else (runs[1] / "config.json").write_text(odd)
    assert main(["compare", *map(str, runs)]) == 2
    error = capsys.readouterr().err
    assert "config.json" in error and "name a work directory" in error and error.count("\n") == 1


ODD = (None, "{", "null", "[]", "[" * 100_000, '{"rows": {}}', '{"rows": []}', '{"rows": {"ppo": "high"}}')


@pytest.mark.parametrize("odd", ODD)
def test_a_run_without_an_evaluation_is_listed_and_the_others_compared(runs, capsys, odd):
    (runs[1] / "eval.json").unlink() if odd is None else (runs[1] / "eval.json").write_text(odd)
    assert main(["compare", *map(str, runs), "--markdown"]) == 0
    said = capsys.readouterr().out.splitlines()
    why = "eval.json is damaged" if odd in ("{", "[" * 100_000) else "eval.json holds no evaluation of its policies"
    why = "not evaluated" if odd is None else why
    assert said[-1] == f"{runs[1]}: {why}; `stepjax eval --workdir={runs[1]}`"
    assert said[3].startswith("| clip: ppo.weight=1.0 | 2 |") and len(said) == 5


def test_a_run_that_is_named_twice_is_one(runs):
    assert [len(row.runs) for row in experiments([*runs, runs[0], runs[0] / ".." / runs[0].name])] == [
        len(row.runs) for row in experiments(runs)
    ]


def test_differences_are_those_of_the_same_seed(tmp_path):
    runs = [
        write_run(tmp_path / f"{name}-s{seed}", seed=seed, weight=weight, accuracy=accuracy)
        for name, weight, figures in (("a", 1.0, (0.5, 0.6, 0.7)), ("b", 2.0, (0.7, 0.8, 0.84)), ("c", 3.0, (0.4,)))
        for seed, accuracy in enumerate(figures)
    ]
    runs.append(write_run(tmp_path / "b-s7", seed=7, weight=2.0, accuracy=0.1))  # no pair
    found = differences(experiments(runs))
    assert found[0] == ["", "seeds", "right answers", "trace error", "steps"]
    values = [0.2, 0.2, 0.14]
    half = 4.302653 * statistics.stdev(values) / 3**0.5  # Student's t of two degrees of freedom, 95 %
    low, high = (100 * (statistics.mean(values) + sign * half) for sign in (-1, 1))
    assert found[1][:3] == ["b: ppo.weight=2.0", "3", f"+18.0 [{low:+.1f}, {high:+.1f}] points"]
    assert found[2][:3] == ["c: ppo.weight=3.0", "1", "-10.0 points"]
    assert differences(experiments(runs[:3])) == []


def test_without_runs_or_with_an_unknown_option(capsys):
    assert main(["compare"]) == 2 and "name the work directories" in capsys.readouterr().err
    assert main(["compare", "--csv"]) == 2 and "--csv" in capsys.readouterr().err


def test_a_figure_that_is_no_number_is_left_out(runs):
    (runs[2] / "eval.json").write_text('{"rows": {"ppo": {"accuracy": "high", "steps": 3, "bad": NaN}}}')
    assert compare(experiments(runs))[1]["figures"]["accuracy"] == (0.9, None)

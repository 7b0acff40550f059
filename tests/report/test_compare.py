"""Runs side by side: the same configuration in one row, mean and spread over its seeds."""

import json
import statistics
from pathlib import Path

import pytest

from stepjax.cli import main
from stepjax.report.compare import as_text, compare


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
    rows = compare(runs)
    assert [(row["name"], row["runs"]) for row in rows] == [("after SFT", 2), ("clip", 2), ("delta", 1)]
    mean, spread = rows[1]["figures"]["accuracy"]
    assert mean == pytest.approx(0.85) and spread == pytest.approx(statistics.stdev([0.9, 0.8]))
    assert rows[2]["figures"]["accuracy"] == (0.5, None)
    assert rows[0]["figures"]["accuracy"][0] == pytest.approx(0.45)


def test_figures_that_no_run_has_take_no_column(runs):
    lines = as_text(compare(runs))
    assert lines[0] == ["", "runs", "right answers", "trace error", "steps", "truncated"]
    assert lines[1] == ["after SFT", "2", "45.0 ± 7.1 %", "–", "3.00 ± 0.00", "0.0 ± 0.0 %"]
    assert lines[3] == ["delta", "1", "50.0 %", "1.0 %", "12.3", "50.0 %"]


def test_markdown_from_the_command(runs, capsys):
    assert main(["compare", *map(str, runs), "--markdown"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1] == "| --- | --- | --- | --- | --- | --- |" and said[3].startswith("| clip | 2 | 85.0 ± 7.1 % |")


@pytest.mark.parametrize(
    "break_it, said",
    [
        (
            lambda run: (run / "eval.json").unlink(),
            "eval.json cannot be read (No such file or directory); run `stepjax",
        ),
        (lambda run: (run / "eval.json").write_text("{"), "eval.json is not what stepjax writes"),
        (lambda run: (run / "config.json").unlink(), "name a work directory"),
        *(
            (lambda run, name=name, odd=odd: (run / name).write_text(odd), f"{name} is not what stepjax writes")
            for name in ("config.json", "eval.json")
            for odd in ("null", "[]", "[" * 100_000)
        ),
        *(
            (lambda run, odd=odd: (run / "eval.json").write_text(odd), "eval.json is not what stepjax writes")
            for odd in ('{"rows": {}}', '{"rows": []}', '{"rows": {"ppo": "high"}}')
        ),
    ],
)
def test_what_is_no_finished_run_takes_one_line(runs, capsys, break_it, said):
    break_it(runs[1])
    assert main(["compare", *map(str, runs)]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_without_runs_or_with_an_unknown_option(capsys):
    assert main(["compare"]) == 2 and "name the work directories" in capsys.readouterr().err
    assert main(["compare", "--csv"]) == 2 and "--csv" in capsys.readouterr().err


def test_a_figure_that_is_no_number_is_left_out(runs):
    (runs[2] / "eval.json").write_text('{"rows": {"ppo": {"accuracy": "high", "steps": 3, "bad": NaN}}}')
    assert compare(runs)[1]["figures"]["accuracy"] == (0.9, None)

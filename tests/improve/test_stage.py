"""Stage improve with a tiny run: rounds, what they leave, and that kills at any moment change nothing."""

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from runs.tiny_run import (
    OPTIONS,
    TinyRun,
    arrays,
    assert_same_run,
    environment,
    kill_when,
    lines,
    start,
    stepjax,
    write_config,
)

from stepjax.data.dataset import Records
from stepjax.programs import Program
from stepjax.workdir.checkpoint_format import steps

LOCAL = Path(__file__).parents[2] / "launch" / "local.py"
SMALL = {
    "improve.rounds": 2,
    "improve.problems": 8,
    "improve.updates": 6,
    "improve.rows": 8,
    "improve.row_tokens": 64,
    "improve.log_every": 1,
    "improve.checkpoint_every": 2,
    "improve.valid_problems": 8,
    "search.rows": 8,
}
BEST = {**SMALL, "search.n": 4, "improve.kl": 0.05}
VISITS = {
    **SMALL,
    "search.method": "puct",
    "search.sims": 8,
    "search.width": 3,
    "improve.targets": "visits",
    "improve.least_visits": 3,
    "improve.kl": 0.1,
    "improve.restart": False,
}


@dataclasses.dataclass(frozen=True)
class Improved:
    """A config that builds on the tiny run, and the work directory that `stepjax improve` left with it."""

    config: Path
    after: Path


def improved(tiny: TinyRun, folder: Path, options: dict) -> Improved:
    config = write_config(folder / "improve.py", {**OPTIONS, "base": str(tiny.workdir), **options})
    assert stepjax("improve", config, folder / "after") == 0
    return Improved(config, folder / "after")


@pytest.fixture(scope="module")
def best(tiny: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Improved:
    return improved(tiny, tmp_path_factory.mktemp("best"), BEST)


@pytest.fixture(scope="module")
def visits(tiny: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Improved:
    return improved(tiny, tmp_path_factory.mktemp("visits"), VISITS)


def searches(workdir: Path) -> dict[str, list[dict]]:
    """The rounds' records, without what depends on which of them shared a batch."""
    found = {}
    for path in sorted((workdir / "search").glob("improve-?.jsonl")):
        found[path.name] = [json.loads(line) for line in path.read_text().splitlines()]
        for record in found[path.name]:
            for name in ("computed_again", "flops"):
                del record["extra"]["search"]["cost"][name]
            for node in record["extra"]["tree"]:
                del node["logprob"]
    return found


@pytest.mark.slow
def test_rounds_search_other_problems_and_say_what_they_found(best: Improved) -> None:
    rows, found = lines(best.after, "improve"), searches(best.after)
    assert [row["step"] for row in rows] == list(range(1, 13)) and [row["round"] for row in rows] == [1] * 6 + [2] * 6
    first, second = ({record["id"] for record in found[f"improve-{i}.jsonl"]} for i in (1, 2))
    assert len(first) == len(second) == 8 and not first & second
    spent = 0
    for number, row in ((1, rows[0]), (2, rows[-1])):
        records = found[f"improve-{number}.jsonl"]
        told = [record["extra"]["search"] for record in records]
        spent += sum(one["cost"]["generated"] for one in told)
        right = [len({c["node"] for c in one["candidates"] if c["correct"]}) for one in told]
        assert row["search/generated_tokens"] == spent
        assert row["search/any_right"] == sum(map(bool, right)) / 8
        assert 0 < row["search/targets"] <= sum(right) and row["search/learned"] == row["search/any_right"]
        assert row["search/accuracy"] == sum(bool(record["correct"]) for record in records) / 8
    assert "valid/accuracy" in rows[-1] and steps(best.after / "checkpoints" / "improve") == [10, 12]
    assert (best.after / "search" / "improve-2.html").is_file() and (best.after / "report.html").is_file()


@pytest.mark.slow
def test_a_second_call_finds_everything_done(best: Improved, tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    shutil.copytree(best.after, workdir)
    assert stepjax("improve", best.config, workdir) == 0
    assert_same_run(workdir, best.after, ["improve"])
    assert searches(workdir) == searches(best.after)


@pytest.mark.slow
def test_its_policy_is_measured_sampled_and_exported(
    best: Improved, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    workdir = tmp_path / "run"
    shutil.copytree(best.after, workdir)
    assert stepjax("eval", best.config, workdir) == 0
    assert "after expert iteration" in capfd.readouterr().out
    assert set(json.loads((workdir / "eval.json").read_text())["rows"]) == {"sft", "improve"}
    assert stepjax("sample", best.config, workdir, "--config.problems=2") == 0
    assert (workdir / "samples" / "improve-test.jsonl").is_file(), "the newest policy is the one that is meant"
    assert stepjax("export", best.config, workdir, f"--config.out={tmp_path / 'hf'}") == 0
    assert "expert iteration from search" in (tmp_path / "hf" / "README.md").read_text()


@pytest.mark.slow
def test_a_finished_run_goes_on_with_options_of_its_own(tiny: TinyRun, tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    shutil.copytree(tiny.workdir, workdir)
    few = [f"--config.{name}={SMALL[f'improve.{name}']}" for name in ("problems", "rows", "row_tokens")]
    few += ["--config.rounds=1", "--config.updates=2", "--config.valid_problems=0", "--config.search.n=4"]
    assert stepjax("improve", tiny.config, workdir, *few) == 0
    assert steps(workdir / "checkpoints" / "improve")[-1] == 2
    assert stepjax("improve", tiny.config, workdir, "--config.problems=5") == 2, "a round was made with 4"


def searched(workdir: Path, number: int, count: int) -> Callable[[], bool]:
    path = workdir / "search" / f"improve-{number}.jsonl"
    return lambda: path.exists() and path.read_bytes().count(b"\n") >= count


def logged(workdir: Path, count: int) -> Callable[[], bool]:
    def moment() -> bool:
        path = workdir / "metrics.jsonl"
        return path.exists() and path.read_text().count('"stage": "improve"') >= count

    return moment


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["first search", "first training", "second search", "second training"])
def test_a_killed_run_ends_as_one_that_was_not(best: Improved, tmp_path: Path, moment: str) -> None:
    _killed(best, tmp_path, moment)


@pytest.mark.slow
def test_a_killed_run_that_goes_on_from_its_last_policy(visits: Improved, tmp_path: Path) -> None:
    _killed(visits, tmp_path, "second training")


def _killed(made: Improved, folder: Path, moment: str) -> None:
    workdir = folder / "run"
    struck = {
        "first search": searched(workdir, 1, 3),
        "first training": logged(workdir, 4),
        "second search": searched(workdir, 2, 3),
        "second training": logged(workdir, 10),
    }[moment]
    assert kill_when(start("improve", made.config, workdir), struck), "it ended before the kill"
    assert not (workdir / "checkpoints" / "improve" / "12").exists()
    assert stepjax("improve", made.config, workdir) == 0
    assert_same_run(workdir, made.after, ["improve"])
    assert searches(workdir) == searches(made.after)


@pytest.mark.slow
def test_a_round_whose_end_is_damaged_is_trained_again_from_before(best: Improved, tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    assert stepjax("improve", best.config, workdir, "--config.improve.rounds=1") == 0
    assert steps(workdir / "checkpoints" / "improve") == [4, 6]
    for file in (workdir / "checkpoints" / "improve" / "6").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert stepjax("improve", best.config, workdir) == 0
    assert_same_run(workdir, best.after, ["improve"])
    assert searches(workdir) == searches(best.after)


@pytest.mark.slow
def test_searches_that_are_gone_are_not_made_by_another_policy(
    best: Improved, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    workdir = tmp_path / "run"
    shutil.copytree(best.after, workdir)
    shutil.rmtree(workdir / "checkpoints" / "improve" / "12")
    path = workdir / "search" / "improve-2.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]))
    assert stepjax("improve", best.config, workdir) == 2
    error = capfd.readouterr().err.strip()
    assert "searches are missing on which training has begun" in error and len(error.splitlines()) == 1


@pytest.mark.slow
def test_a_round_is_not_continued_with_another_search(
    best: Improved, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    workdir = tmp_path / "run"
    shutil.copytree(best.after, workdir)
    shutil.rmtree(workdir / "checkpoints" / "improve" / "12")
    assert stepjax("improve", best.config, workdir, "--config.search.n=2") == 2
    assert "improve-2.jsonl was made with n=4, not 2; name another work directory" in capfd.readouterr().err


@pytest.mark.slow
def test_each_round_restarts_or_goes_on(best: Improved, visits: Improved) -> None:
    """By the divergence from the first policy in a round's first update, before it learns."""
    for made, restarts in ((best, True), (visits, False)):
        rows = lines(made.after, "improve")
        assert rows[0]["kl"] == pytest.approx(0, abs=1e-6) and rows[5]["kl"] > 1e-5
        assert (rows[6]["kl"] < 1e-6) == restarts


@pytest.mark.slow
def test_values_of_the_trees_are_labels(visits: Improved) -> None:
    path = visits.after / "search" / "improve-1-values.jsonl"
    records = Records(path, "train")
    assert len(records) and all(record.kind == "value" for record in records)
    assert all(record.values[-1] == float(bool(record.correct)) for record in records)


@pytest.mark.slow
def test_value_models_are_trained_on_the_trees(tiny: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {
        **VISITS,
        "base": str(tiny.workdir),
        "search.prm": "value",
        "prm.target": "value",
        "prm.classes": 2,
        "improve.prm": True,
        "improve.targets": "best_right",
    }
    config, workdir = write_config(tmp_path / "values.py", {**OPTIONS, **options}), tmp_path / "run"
    assert stepjax("prm", config, workdir) == 0
    assert stepjax("improve", config, workdir, "--config.improve.rounds=1") == 0
    assert not (workdir / "checkpoints" / "prm_improve1").exists(), "the last round's values have no reader"
    compiled: list[str] = []
    lower = Program.lower
    monkeypatch.setattr(Program, "lower", lambda program: (compiled.append(program.name), lower(program))[1])
    assert stepjax("improve", config, workdir, "--config.improve.rounds=3") == 0  # more rounds than there were
    assert compiled.count("prm_improve_update") == compiled.count("prm_score") == 1, "once for all rounds"
    assert [row["step"] for row in lines(workdir, "prm_improve1")] == list(range(1, 11))
    told = json.loads((workdir / "search" / "improve-2.options.json").read_text())
    assert told["prm_stage"] == "prm_improve1" and told["process_reward_model"] == 10
    one, other = (arrays(workdir, f"prm_improve{number}") for number in (1, 2))
    assert any((one[name] != other[name]).any() for name in one if name.startswith("params/"))
    assert not (workdir / "checkpoints" / "prm_improve3").exists(), "the last round's values have no reader"


@pytest.mark.slow
@pytest.mark.parametrize("stages", [("improve", "ppo"), ("ppo",)])
def test_adapters_or_all_parameters(tiny: TinyRun, tmp_path: Path, stages: tuple[str, ...]) -> None:
    changes = {"base": str(tiny.workdir), "lora.rank": 2, "lora.stages": stages, "search.prm": "uniform"}
    config = write_config(tmp_path / "lora.py", {**OPTIONS, **BEST, **changes})
    assert stepjax("improve", config, tmp_path / "run") == 0
    names = {name for name in arrays(tmp_path / "run", "improve") if name.startswith("params/")}
    adapters = {name for name in names if "lora" in name}
    assert names and (names == adapters if "improve" in stages else not adapters)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_eight_devices_do_as_one(tiny: TinyRun, best: Improved, tmp_path: Path, processes: int) -> None:
    options = {**OPTIONS, **BEST, "base": str(tiny.workdir), "mesh.data": 8, "improve.rounds": 1}
    config, workdir = write_config(tmp_path / "eight.py", options), tmp_path / "run"
    if processes == 1:
        assert stepjax("improve", config, workdir) == 0
    else:
        code = "import sys; from stepjax.cli import main; sys.exit(main(sys.argv[1:]))"
        command = [sys.executable, "-c", code, "improve", f"--config={config}", f"--workdir={workdir}"]
        argv = [sys.executable, str(LOCAL), "--processes", "2", "--devices", "4", "--", *command]
        subprocess.run(argv, check=True, env=environment(), timeout=1200)
    ours, theirs = (lines(folder, "improve")[:6] for folder in (workdir, best.after))
    for one, other in zip(ours, theirs, strict=True):
        assert one["search/targets"] == other["search/targets"]
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-3)
    assert searches(workdir)["improve-1.jsonl"] and (workdir / "search" / "improve-1.html").is_file()

"""kill -9 at any moment: the same command goes on and ends with the same bits as a run that was never stopped."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from runs.tiny_run import TinyRun, assert_same_run, kill_when, lines, start, stepjax

SLOW_DISK = """
import time
from stepjax.workdir import checkpoint_format as f
whole = f.write_manifest
def write_manifest(*args):
    time.sleep(0.4)
    whole(*args)
    time.sleep(0.4)
f.write_manifest = write_manifest
"""
"""Saves take long enough to be struck: before the manifest is written, or after it and before the rename."""


def logged(workdir: Path, stage: str, count: int) -> Callable[[], bool]:
    return lambda: (workdir / "metrics.jsonl").exists() and len(whole_lines(workdir, stage)) >= count


def whole_lines(workdir: Path, stage: str) -> list[str]:
    text = (workdir / "metrics.jsonl").read_text().splitlines(keepends=True)
    return [line for line in text if f'"stage": "{stage}"' in line and line.endswith("\n")]


def saving(workdir: Path, stage: str, step: int) -> Callable[[], bool]:
    return lambda: any((workdir / "checkpoints" / stage).glob(f"{step}.partial"))


def state(workdir: Path, stage: str) -> str:
    """Where a kill struck, for people."""
    folder = workdir / "checkpoints" / stage
    found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    count = len(whole_lines(workdir, stage)) if (workdir / "metrics.jsonl").exists() else 0
    return f"{stage}: {count} lines logged, checkpoints {' '.join(found) or 'none'}"


@pytest.mark.slow
def test_a_killed_ppo_run_ends_with_the_same_bits(tiny: TinyRun, tmp_path: Path) -> None:
    workdir = tiny.copy(tmp_path / "run", without=("ppo",))
    process = start("ppo", tiny.config, workdir, prelude=SLOW_DISK)
    assert kill_when(process, saving(workdir, "ppo", 4), after=0.2), "it ended before the kill"
    struck = state(workdir, "ppo")
    assert "4.partial" in struck and 0 < len(lines(workdir, "ppo")) < 12
    assert stepjax("ppo", tiny.config, workdir) == 0
    assert_same_run(workdir, tiny.workdir, ["sft", "prm", "ppo"])


Kill = tuple[Callable[[], bool], float, str]
"""The moment, seconds that are waited past it, and what the run is begun with."""


def killed_and_killed_again(config: Path, workdir: Path, stage: str, kills: Sequence[Kill]) -> None:
    """A kill in each start of the run, and one start more that comes to the end."""
    struck = 0
    for moment, after, prelude in kills:
        process = start(stage, config, workdir, prelude=prelude)
        in_time = kill_when(process, moment, after=after)
        print(state(workdir, stage) if in_time else "too late")
        struck += in_time
    assert struck, "every start came to its end"
    assert stepjax(stage, config, workdir) == 0


@pytest.mark.slow
def test_five_kills_of_ppo(tiny: TinyRun, tmp_path: Path) -> None:
    """At any moment of a start, behind some rounds, and where checkpoints are being written, one after another."""
    rng = random.Random(0)
    workdir = tiny.copy(tmp_path / "run", without=("ppo",))
    kills: list[Kill] = [
        (lambda: True, rng.uniform(0, 6), ""),
        (logged(workdir, "ppo", rng.randint(1, 3)), rng.uniform(0, 0.05), ""),
        (saving(workdir, "ppo", 4), rng.uniform(0, 0.8), SLOW_DISK),
        (logged(workdir, "ppo", rng.randint(6, 8)), rng.uniform(0, 0.05), ""),
        (saving(workdir, "ppo", 10), rng.uniform(0, 0.8), SLOW_DISK),
    ]
    killed_and_killed_again(tiny.config, workdir, "ppo", kills)
    assert_same_run(workdir, tiny.workdir, ["sft", "prm", "ppo"])


@pytest.mark.slow
@pytest.mark.parametrize("stage, lines, every", [("sft", 9, 50), ("prm", 9, 3)])
def test_two_kills_of_supervised_training(tiny: TinyRun, tmp_path: Path, stage: str, lines: int, every: int) -> None:
    rng = random.Random(10)
    workdir = tmp_path / "run"
    if stage == "prm":
        tiny.copy(workdir, without=("ppo", "prm"))
    kills: list[Kill] = [
        (logged(workdir, stage, rng.randint(1, lines // 2)), rng.uniform(0, 0.1), ""),
        (saving(workdir, stage, every * rng.randint(2, 3)), rng.uniform(0, 0.8), SLOW_DISK),
    ]
    killed_and_killed_again(tiny.config, workdir, stage, kills)
    assert_same_run(workdir, tiny.workdir, [stage])


def test_a_killed_start_leaves_a_folder_that_can_be_continued(tiny: TinyRun, tmp_path: Path) -> None:
    workdir = tiny.copy(tmp_path / "run", without=("ppo", "prm", "sft"))
    tokenizer = (workdir / "tokenizer" / "tokenizer.json").read_text()
    (workdir / "tokenizer").rename(workdir / "tokenizer.partial")
    (workdir / "tokenizer.partial" / "tokenizer.json").write_text(tokenizer[:100])
    (workdir / "metrics.jsonl").write_text("")
    assert stepjax("sft", tiny.config, workdir) == 0
    assert (workdir / "tokenizer" / "tokenizer.json").read_text() == tokenizer
    assert not (workdir / "tokenizer.partial").exists()
    assert_same_run(workdir, tiny.workdir, ["sft"])

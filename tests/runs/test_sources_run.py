"""The same problems from a JSONL file and from elsewhere: the same run, bit for bit."""

from pathlib import Path

import pytest
from runs.tiny_run import OPTIONS, assert_same_run, made_once, stepjax, write_config
from tasks.kept_problems import FORMS, sums

OUTCOME = '{"outcome": stream(signal="outcome", horizon="response", critic=False, bad=0.0)}'
SMALL = {
    "stages": ("sft", "ppo"),
    "task.name": "files",
    "task.separator": "\n",
    "task.files.problem": "question",
    "task.files.answer": "final",
    "task.files.solution": "worked",
    "task.files.held_out": 0.2,
    "tokenizer.vocab": 300,
    "sft.updates": 15,
    "ppo.iterations": 2,
}


def train(folder: Path, form: str) -> None:
    """A work directory, `folder/run`, of the problems in this form."""
    source = FORMS[form](folder, sums(120))
    config = write_config(folder / "mine.py", {**OPTIONS, **SMALL, "task.files.train": source}, streams=OUTCOME)
    assert stepjax("sft", config, folder / "run") == 0
    assert stepjax("ppo", config, folder / "run") == 0


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory, compiled_once: Path) -> Path:
    return made_once(tmp_path_factory, "plain", lambda folder: train(folder, "jsonl")) / "run"


@pytest.mark.slow
@pytest.mark.parametrize("form", ["parquet", "array_gz", "tfds_folder"])
def test_a_run_does_not_depend_on_where_its_problems_are(
    form: str, tmp_path: Path, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPJAX_QUIET", "1")
    train(tmp_path, form)
    assert_same_run(tmp_path / "run", plain, ("sft", "ppo"))

"""The config that docs/training.md shows for problems of one's own starts as it stands."""

import json
from pathlib import Path

import pytest
from docs.pages import ROOT, blocks

from stepjax.options import parse
from stepjax.runs.opening import open_run
from stepjax.runs.stages import check_stages


def test_the_shown_config_trains_on_a_jsonl_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shown,) = [block for block in blocks(ROOT / "docs" / "training.md", "python") if block.startswith("# own.py")]
    (tmp_path / "own.py").write_text(shown)
    rows = [{"problem": f"{i}+1=?", "answer": i + 1, "solution": f"I add.\n\n#### {i + 1}"} for i in range(40)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    config, _ = parse(["--config=own.py", "--config.mesh.data=1"])
    with open_run(config, tmp_path / "run") as run:
        check_stages(run, [*config.stages, "eval"])
        assert run.task.problems("train") and run.task.problems("test")

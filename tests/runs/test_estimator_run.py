"""PPO without a critic, by a list of streams with an estimator each."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
from runs.tiny_run import OPTIONS, TinyRun, arrays, lines, stepjax, write_config

from stepjax.options import parse

STREAMS = """{
        "return": stream(signal="prm", estimator="return"),
        "value": stream(signal="prm", estimator="value", good=1.0, neutral=0.5, bad=0.0),
        "progress": stream(signal="prm", estimator="progress", good=1.0, neutral=0.5, bad=0.0, first=0.5),
        "group": stream(signal="prm", estimator="group", horizon="turn"),
        "rloo": stream(signal="outcome", estimator="rloo", horizon="response"),
    }"""


@pytest.mark.slow
def test_estimators_that_need_no_critic_train_none(tiny: TinyRun, tmp_path: Path, capsys) -> None:
    config = write_config(tmp_path / "changed.py", {**OPTIONS, "ppo.iterations": 2}, streams=STREAMS)
    workdir = tiny.copy(tmp_path / "run", without=("ppo",))
    (workdir / "config.json").write_text(json.dumps(dataclasses.asdict(parse([f"--config={config}"])[0])))
    assert stepjax("ppo", config, workdir) == 0
    assert not [name for name in arrays(workdir, "ppo") if name.startswith("critic")]
    last = lines(workdir, "ppo")[-1]
    assert not [name for name in last if name.startswith(("explained_variance/", "value_loss/"))]
    for kind in ("reward", "advantage_mean", "advantage_std", "return_mean", "return_std"):
        assert all(math.isfinite(last[f"{kind}/{name}"]) for name in ("return", "value", "progress", "group", "rloo"))
    alike = [value for name, value in last.items() if name.startswith("advantage_corr/")]
    assert len(alike) == 10 and all(-1 <= value <= 1 for value in alike)

    capsys.readouterr()
    assert stepjax("ppo", config, tmp_path / "single", "--config.ppo.samples=1") == 2
    said = capsys.readouterr().err
    assert "config.ppo.samples: must be 2 or more, not 1: the estimator 'group' of the stream 'group'" in said

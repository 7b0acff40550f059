"""A run whose packed rows are cut over `mesh.context` is the run of one device."""

from pathlib import Path

import numpy as np
import pytest
from runs.tiny_run import TinyRun, lines, stepjax

CUT = ("--config.mesh.fsdp=2", "--config.mesh.context=2", "--config.ppo.row_tokens=80", "--config.ppo.micro_tokens=80")
STAGES = {"sft": 1e-2, "prm": 1e-3, "ppo": 1e-3}
"""How far a stage's figures may be apart: the rounding of its updates adds up."""


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_leaves_the_figures_of_one_device(tiny: TinyRun, tmp_path: Path, stage: str) -> None:
    stages, found = list(STAGES), {}
    for name, mesh in (("alone", ()), ("cut", CUT)):
        workdir = tiny.copy(tmp_path / name, without=tuple(stages[stages.index(stage) :]))
        assert stepjax(stage, tiny.config, workdir, "--config.ppo.iterations=2", *mesh) == 0
        found[name] = lines(workdir, stage)
    assert len(found["cut"]) == len(found["alone"]) > 0
    for ours, theirs in zip(found["cut"], found["alone"], strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            if isinstance(value, float):
                np.testing.assert_allclose(ours[name], value, rtol=STAGES[stage], atol=1e-4, err_msg=f"{stage} {name}")
            else:
                assert ours[name] == value, name

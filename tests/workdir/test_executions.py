"""stages.jsonl: one line a stage that ended or was told to stop, none for one that failed."""

import json

import jax
import pytest

from stepjax.errors import Stopped, UserError
from stepjax.parallel import make_mesh
from stepjax.workdir.executions import FILE, executed


def test_a_line_for_each_stage(tmp_path):
    mesh = make_mesh(1, 1, 1)
    with executed(tmp_path, "sft", mesh):
        pass
    with pytest.raises(Stopped), executed(tmp_path, "ppo", mesh):
        raise Stopped("told to")
    with pytest.raises(UserError), executed(tmp_path, "eval", mesh):
        raise UserError("no")
    first, second = map(json.loads, (tmp_path / FILE).read_text().splitlines())
    assert (first["stage"], second["stage"]) == ("sft", "ppo") and second["stopped"] and "stopped" not in first
    assert first["seconds"] >= 0 and first["devices"] == 1 and first["device"] == jax.devices()[0].device_kind
    assert first["versions"]["jax"] == jax.__version__ and set(first["versions"]) >= {"stepjax", "python"}

"""Checkpoint folders whose files hold what no model has: one line that names the file."""

import json

import pytest
from rewards.prm_references import config_of, save_checkpoint

from stepjax.errors import UserError
from stepjax.models.checkpoint_folder import open_checkpoint


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return save_checkpoint("qwen", tmp_path_factory.mktemp("models") / "whole")


def refusal(folder):
    with pytest.raises(UserError) as error:
        start = open_checkpoint(folder)
        _ = start.decoder, start.tensors
    return str(error.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": ["qwen2"]},
        {"hidden_act": {"name": "silu"}},
        {"rms_norm_eps": 10**400},
        {"rope_scaling": {"rope_type": [1], "factor": 2.0}},
        {"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "beta_fast": "many"}},
    ],
)
def test_a_field_of_a_wrong_type_or_size(tmp_path, changes):
    (tmp_path / "config.json").write_text(json.dumps({**config_of("qwen"), **changes}))
    said = refusal(tmp_path)
    assert said.startswith(f"{tmp_path}/config.json: ") and "\n" not in said and len(said) < 500


def test_an_entry_of_the_weights_that_is_no_name(tmp_path, whole):
    content = (whole / "model.safetensors").read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["model.norm.weight"]["dtype"] = {"F": 32}
    raw = json.dumps(header).encode()
    (tmp_path / "config.json").write_text(json.dumps(config_of("qwen")))
    (tmp_path / "model.safetensors").write_bytes(len(raw).to_bytes(8, "little") + raw + content[8 + size :])
    assert "model.safetensors: tensor model.norm.weight has dtype {'F': 32}" in refusal(tmp_path)

"""Adapters whose tensors or config say something else than the model and the options: loaded whole or refused."""

import json

import jax
import numpy as np
import pytest
from models.test_lora import LORA, model, one_device, params

from stepjax.errors import UserError
from stepjax.models.families import FAMILIES
from stepjax.models.peft_adapter import load_adapter, save_adapter
from stepjax.models.safetensors_file import read_header, write_file


def saved(folder, rename=lambda name: name, drop=lambda name: False, more=(), **config):
    """An adapter that stepjax wrote, its tensors and config changed."""
    save_adapter(folder, params(), LORA, FAMILIES["qwen2"], one_device())
    path, tensors = folder / "adapter_model.safetensors", {}
    for name, entry in read_header(path).items():
        entry.visit(lambda x, name=name: tensors.__setitem__(rename(name), np.array(x)))
    tensors = {n: x for n, x in tensors.items() if not drop(n)} | {n: np.zeros((2, 3), np.float32) for n in more}
    write_file(path, {n: (x.shape, x.dtype) for n, x in tensors.items()}, tensors.values())
    options = json.loads((folder / "adapter_config.json").read_text()) | config
    (folder / "adapter_config.json").write_text(json.dumps(options))
    return load_adapter(folder, model(), LORA, FAMILIES["qwen2"], one_device())


def test_an_adapter_of_a_model_without_a_head_is_the_same_adapter(tmp_path):
    plain = saved(tmp_path / "plain", init_lora_weights="gaussian")
    bare = saved(tmp_path / "bare", lambda name: name.replace("base_model.model.model.", "base_model.model."))
    jax.tree.map(np.testing.assert_array_equal, bare, plain)


NAME = "base_model.model.model.layers.{}.self_attn.q_proj.lora_{}.weight"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"more": [NAME.format(9, "A")]}, "tensor model.layers.9.self_attn.q_proj.lora_A.weight has no place"),
        ({"drop": lambda n: n == NAME.format(1, "B")}, "model.layers.1.self_attn.q_proj.lora_B.weight is missing"),
        ({"more": [NAME.format(0, "A").replace(".model.model", ".model")]}, "are both model.layers.0.self_attn.q_proj"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights=pissa is not supported; it must be True"),
        ({"alora_invocation_tokens": [5]}, r"alora_invocation_tokens=\[5\] is not supported"),
    ],
)  # fmt: skip
def test_what_would_change_the_function_is_refused(changes, message, tmp_path):
    with pytest.raises(UserError, match=message) as error:
        saved(tmp_path, **changes)
    assert "\n" not in str(error.value)

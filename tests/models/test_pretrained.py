"""Checkpoints in and out: bit by bit, over any mesh, and one line for everything that is wrong with one."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from models.family_cases import CASES, tensor_shapes, tokens, write_checkpoint

from stepjax.errors import UserError
from stepjax.models import load_pretrained, save_pretrained
from stepjax.models.safetensors_file import read_header, write_file
from stepjax.parallel import make_mesh

BF16 = ml_dtypes.bfloat16
LARGE = {**CASES["qwen3-bias"], "vocab_size": 64, "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2}
"""Divided by fsdp 4 × tensor 2 wherever a dimension may be."""


def contents(folder):
    """Every tensor of a folder by name, as bytes."""
    found = {}
    for path in folder.glob("*.safetensors"):
        for name, entry in read_header(path).items():
            entry.visit(lambda x, name=name: found.__setitem__(name, (x.dtype.name, x.shape, x.tobytes())))
    return found


@pytest.mark.parametrize("name", ["qwen2-window", "llama-biases", "gemma3-alternating"])
def test_a_round_trip_keeps_every_bit(name, tmp_path):
    source = write_checkpoint(tmp_path / "in", CASES[name], BF16)
    model = load_pretrained(source)
    assert model.config.param_dtype == model.config.dtype == BF16
    save_pretrained(model, tmp_path / "out", generation_config={"temperature": 0.7})
    assert contents(tmp_path / "out") == contents(source)
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written["torch_dtype"] == "bfloat16" and CASES[name].items() <= written.items()
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text()) == {"temperature": 0.7}


def test_shards_of_files_and_of_devices_give_the_same_bits(tmp_path):
    source = write_checkpoint(tmp_path / "in", LARGE)
    mesh = make_mesh(1, 4, 2)
    sharded = load_pretrained(source, mesh=mesh)
    whole = load_pretrained(source)
    layers = sharded.params["trunk"]["layers"]
    for name, shape in {
        "query": (2, 8, 2, 12),
        "output": (2, 2, 12, 8),
        "gate": (2, 8, 22),
        "down": (2, 22, 8),
    }.items():
        assert {s.data.shape for s in layers[name].addressable_shards} == {shape}, name
    assert {s.data.shape for s in sharded.params["trunk"]["embedding"].addressable_shards} == {(32, 8)}
    jax.tree.map(np.testing.assert_array_equal, sharded.params, whole.params)
    save_pretrained(sharded, tmp_path / "out", shard_bytes=20_000)
    names = sorted(path.name for path in (tmp_path / "out").glob("*.safetensors"))
    assert len(names) > 2 and names[0] == f"model-00001-of-{len(names):05}.safetensors"
    assert all((tmp_path / "out" / name).stat().st_size < 25_000 for name in names)
    assert contents(tmp_path / "out") == contents(source)
    again = load_pretrained(tmp_path / "out")
    jax.tree.map(np.testing.assert_array_equal, again.params, whole.params)
    save_pretrained(again, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").glob("model*")] == ["model.safetensors"]
    rows = np.concatenate([tokens(), tokens()[:1]])
    found = sharded(rows)
    assert found.shape == (4, rows.shape[1], 64) and found.dtype == jnp.float32
    np.testing.assert_allclose(found, whole(rows), rtol=1e-4, atol=1e-4)


def test_cast_on_the_way(tmp_path):
    source = write_checkpoint(tmp_path, CASES["qwen2-linear"], BF16)
    model = load_pretrained(source, param_dtype=jnp.float32)
    plain = load_pretrained(source, dtype=jnp.float32)
    assert plain.params["trunk"]["embedding"].dtype == BF16
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b.astype(np.float32)), model.params, plain.params)
    np.testing.assert_allclose(model(tokens()), plain(tokens()), rtol=1e-5, atol=1e-5)
    half = np.asarray(load_pretrained(source)(tokens()))
    assert half.dtype == np.float32
    assert 0 < np.abs(half - model(tokens())).max() < 0.1 * np.abs(half).max()


def test_the_safetensors_library_reads_and_writes_the_same_files(tmp_path):
    from safetensors.numpy import load_file, save_file

    source = write_checkpoint(tmp_path / "in", CASES["qwen2-linear"])
    tensors = load_file(source / "model.safetensors")
    assert {n: ("float32", x.shape, x.tobytes()) for n, x in tensors.items()} == contents(source)
    (tmp_path / "theirs").mkdir()
    save_file({f"x{i}": x for i, x in enumerate(tensors.values())}, tmp_path / "theirs" / "model.safetensors")
    theirs = contents(tmp_path / "theirs")
    assert list(contents(source).values()) == [theirs[f"x{i}"] for i in range(len(theirs))]


def test_transformers_loads_what_is_saved_and_saves_what_is_loaded(tmp_path):
    torch = pytest.importorskip("torch")
    from models import torch_reference

    model = load_pretrained(write_checkpoint(tmp_path / "in", CASES["gemma2-caps"], BF16))
    save_pretrained(model, tmp_path / "out", shard_bytes=10_000)
    theirs = torch_reference.load(tmp_path / "out", torch.bfloat16)
    theirs.save_pretrained(tmp_path / "back")
    back = load_pretrained(tmp_path / "back")
    assert back.config == model.config
    jax.tree.map(np.testing.assert_array_equal, back.params, model.params)


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def without_tensor(folder, case, *names, **shapes):
    """Writes the weights again, some left out, some in another shape."""
    kept = {n: (s, np.dtype(np.float32)) for n, s in tensor_shapes(case).items() if n not in names}
    kept |= {n.replace("__", "."): (s, np.dtype(np.float32)) for n, s in shapes.items()}
    write_file(folder / "model.safetensors", kept, (np.zeros(s, np.float32) for s, _ in kept.values()))


CONFIGS = {
    "another family": ({"model_type": "mamba"}, "model_type 'mamba' is not supported (there are: qwen2, qwen3, llama"),
    "a rope that is not known": (
        {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
        "rope type 'dynamic' is not sup",
    ),
    "half a rope": ({"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5 is not supported"),
    "quantised": ({"quantization_config": {"bits": 4}}, "quantization_config={'bits': 4} is not supported"),
    "experts": ({"num_experts": 8}, "num_experts=8 is not supported"),
    "an activation": ({"hidden_act": "relu2"}, "hidden_act=relu2 is not supported"),
    "a text for a number": ({"hidden_size": "48"}, "hidden_size must be int, not '48'"),
    "a negative number": ({"intermediate_size": -1}, "intermediate_size must not be negative"),
    "more digits than fit": ({"hidden_size": 10**400}, "hidden_size is a number of 1329 bits, more than any model has"),
    "a float of that size": ({"rms_norm_eps": 10**400}, "rms_norm_eps is a number of 1329 bits"),
    "nothing inside": ({"intermediate_size": 0}, "intermediate_size must be positive"),
    "no size": ({"num_hidden_layers": None}, "num_hidden_layers must be int"),
    "odd heads": ({"num_key_value_heads": 4}, "6 heads over 4 key heads"),
    "other layers": ({"layer_types": ["linear_attention"] * 2}, "layer_types must name sliding_attention or full_att"),
    "a scale of nothing": (
        {"rope_scaling": {"type": "linear", "factor": 0}},
        "the rope's factor must be a number above 0",
    ),
    "fewer rows": (
        {"vocab_size": 60},
        "tensor model.embed_tokens.weight has shape [61, 48], config.json says [60, 48]",
    ),
    "more layers": ({"num_hidden_layers": 3}, "tensor model.layers.2."),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("good"), CASES["qwen2-linear"])


@pytest.mark.parametrize("what", CONFIGS)
def test_a_config_that_cannot_be_followed_is_refused(what, good, tmp_path):
    folder = shutil.copytree(good, tmp_path / "bad")
    changes, message = CONFIGS[what]
    change_config(folder, **changes)
    refused(folder, message)


def refused(folder, message):
    with pytest.raises(UserError) as error:
        load_pretrained(folder)
    assert message in str(error.value) and "\n" not in str(error.value), error.value


def test_damaged_folders_are_refused(good, tmp_path):
    case, bad = CASES["qwen2-linear"], tmp_path / "bad"
    refused(tmp_path / "nothing", "no such folder")
    refused(tmp_path, "holds no config.json")
    shutil.copytree(good, bad)
    weights = bad / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    refused(bad, f"truncated, 100 of {len(whole)} bytes are missing")
    weights.write_bytes(whole[:50])
    refused(bad, "its header is cut off")
    weights.write_bytes((10).to_bytes(8, "little") + b"not a json")
    refused(bad, "its header is not JSON")
    header = b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}'
    weights.write_bytes(len(header).to_bytes(8, "little") + header + b"1234")
    refused(bad, "contradicts itself")
    without_tensor(bad, case, "model.layers.1.mlp.up_proj.weight")
    refused(bad, "tensor model.layers.1.mlp.up_proj.weight is missing")
    without_tensor(bad, case, **{"model.norm.weight": (47,)})
    refused(bad, "tensor model.norm.weight has shape [47], config.json says [48]")
    weights.unlink()
    refused(bad, "only safetensors weights are read")
    for place, message in (("../model.safetensors", "is not a file of this folder"), ("x.safetensors", "is missing")):
        (bad / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"model.norm.weight": place}}))
        refused(bad, message)
    (bad / "config.json").write_text("{")
    refused(bad, ": not JSON")


def test_a_hub_name_that_cannot_be_had_is_one_line():
    refused("stepjax-nobody/nothing@main", "neither a folder nor a model that the hub gives")


def test_rows_beyond_the_vocabulary_are_never_likely(good):
    from stepjax.models import Definition, LanguageModel
    from stepjax.models.checkpoint_folder import open_checkpoint
    from stepjax.models.pretrained import PretrainedModel, pretrained_params

    checkpoint, mesh = open_checkpoint(good), make_mesh(1, 4, 2)
    config = dataclasses.replace(checkpoint.decoder, vocab=64, entries=50)
    params = pretrained_params(checkpoint, config, mesh)
    assert not np.asarray(params["trunk"]["embedding"])[61:].any()
    definition = Definition(lambda rngs: LanguageModel(config, rngs))
    with jax.set_mesh(mesh):
        logits = np.asarray(jax.jit(lambda p, t: definition.bind(p)(t))(params, tokens()))
    wanted = np.asarray(load_pretrained(good)(tokens()))
    np.testing.assert_allclose(logits[..., :50], wanted[..., :50], rtol=1e-4, atol=1e-4)
    assert (logits[..., 50:] == -1e30).all()
    save_pretrained(PretrainedModel(config, checkpoint.config, params, mesh), good.parent / "unpadded")
    assert contents(good.parent / "unpadded") == contents(good)

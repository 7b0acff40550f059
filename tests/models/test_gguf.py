"""GGUF files: the same decoder and the same weights as the family's folder, whatever packs them."""

import dataclasses
import json

import gguf
import jax
import numpy as np
import pytest
from models.family_cases import draw, tensor_shapes, write_checkpoint
from models.gguf_files import CASES, SIZES, write_gguf

from stepjax.models import load_pretrained
from stepjax.models.checkpoint_folder import open_checkpoint
from stepjax.parallel import make_mesh

WIDE = {**CASES["llama"], "hidden_size": 256, "num_attention_heads": 4, "head_dim": 64, "intermediate_size": 512}
"""Whole blocks of 256 in every matrix."""


def read(entry):
    found = []
    entry.visit(lambda x: found.append(np.array(x[:])))
    return found[0]


@pytest.mark.parametrize("name", CASES)
def test_a_file_is_the_folder_that_it_was_made_from(name, tmp_path):
    case = CASES[name]
    folder = open_checkpoint(write_checkpoint(tmp_path / "folder", case))
    file = open_checkpoint(write_gguf(tmp_path / "model.gguf", case))
    assert file.decoder == folder.decoder
    assert file.ends == folder.ends == (2,)
    assert file.named.keys() == folder.named.keys()
    for tensor, entry in folder.named.items():
        wanted, got = read(entry), read(file.named[tensor])
        assert got.shape == wanted.shape and got.dtype == np.float32, tensor
        if "norm" in tensor and name.startswith("gemma"):  # stored with 1 added, which costs the last bits
            np.testing.assert_allclose(got, wanted, rtol=0, atol=3e-7)
        else:
            assert got.tobytes() == wanted.tobytes(), tensor


@pytest.mark.parametrize("packing", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q4_K"])
def test_every_packing_is_unpacked_as_the_library_does(packing, tmp_path):
    path = write_gguf(tmp_path / "model.gguf", WIDE, packing)
    found = open_checkpoint(path).named
    stored = {t.name: gguf.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(path).tensors}
    heads = WIDE["num_attention_heads"]
    for i in range(WIDE["num_hidden_layers"]):
        np.testing.assert_array_equal(
            read(found[f"model.layers.{i}.mlp.down_proj.weight"]), stored[f"blk.{i}.ffn_down.weight"]
        )
        query = stored[f"blk.{i}.attn_q.weight"].reshape(heads, 32, 2, 256)
        halves = np.concatenate([query[:, :, 0], query[:, :, 1]], axis=1).reshape(256, 256)
        np.testing.assert_array_equal(read(found[f"model.layers.{i}.self_attn.q_proj.weight"]), halves)
    if packing in ("F16", "BF16", "Q8_0"):  # close to the numbers themselves too
        name = "model.layers.0.self_attn.k_proj.weight"
        np.testing.assert_allclose(read(found[name]).astype(np.float32), draw(name, (128, 256), WIDE), atol=2e-3)


@pytest.mark.parametrize("packing", ["F16", "Q8_0", "Q4_K"])
def test_transformers_unpacks_the_same_bits(packing, tmp_path):
    torch = pytest.importorskip("torch")
    import transformers

    write_gguf(tmp_path / "model.gguf", WIDE, packing)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", dtype=torch.float32)
    found = open_checkpoint(tmp_path / "model.gguf").named
    theirs = model.state_dict()
    assert found.keys() == theirs.keys()
    for name, entry in found.items():
        assert read(entry).astype(np.float32).tobytes() == theirs[name].numpy().tobytes(), name


def test_a_mesh_has_the_weights_of_one_device(tmp_path):
    path = write_gguf(tmp_path / "model.gguf", WIDE, "Q8_0")
    whole = load_pretrained(path).params
    parts = load_pretrained(path, mesh=make_mesh(2, 2, 2)).params
    jax.tree.map(np.testing.assert_array_equal, parts, whole)


def test_rows_alone_are_those_of_the_whole(tmp_path):
    """A device's part is unpacked by itself, also where rows are stored in another order."""
    entry = open_checkpoint(write_gguf(tmp_path / "model.gguf", WIDE, "Q8_0")).named[
        "model.layers.1.self_attn.q_proj.weight"
    ]
    whole, found = read(entry), []
    entry.visit(lambda x: found.extend([x[64:128], x[[3, 200, 7]], x[64:192, 5:9], len(x), x.shape]))
    for got, wanted in zip(
        found, [whole[64:128], whole[[3, 200, 7]], whole[64:192, 5:9], 256, (256, 256)], strict=True
    ):
        np.testing.assert_array_equal(got, wanted)


def test_only_the_rows_that_are_taken_are_unpacked(tmp_path, monkeypatch):
    entry = open_checkpoint(write_gguf(tmp_path / "model.gguf", WIDE, "Q8_0")).named[
        "model.layers.1.mlp.up_proj.weight"
    ]
    rows, unpack = [], gguf.dequantize
    monkeypatch.setattr(gguf, "dequantize", lambda data, kind: (rows.append(len(data)), unpack(data, kind))[1])
    entry.visit(lambda x: x[128:256, :5])
    assert rows == [128]


def test_a_split_model_is_read_by_its_first_file(tmp_path):
    case = CASES["qwen3"]
    write_gguf(tmp_path / "model.gguf", case, parts=8)
    files = sorted(tmp_path.glob("*.gguf"))
    assert len(files) == 4 and files[0].name == "model-00001-of-00004.gguf"
    found = open_checkpoint(files[0]).named
    for name, shape in tensor_shapes(case).items():
        np.testing.assert_array_equal(read(found[name]), draw(name, shape, case))


def test_mistral_without_a_window_is_a_llama(tmp_path):
    case = {**SIZES, "model_type": "mistral", "sliding_window": None}
    folder = open_checkpoint(write_checkpoint(tmp_path / "folder", case))
    file = open_checkpoint(write_gguf(tmp_path / "model.gguf", case))
    assert file.config["model_type"] == "llama" and file.decoder == folder.decoder


@pytest.mark.parametrize(
    ("name", "layers", "scalar"), [("gemma2", 46, 8), ("gemma2", 42, 16), ("gemma3", 62, 8), ("gemma3", 26, 16)]
)
def test_the_largest_gemmas_scale_their_queries_otherwise(name, layers, scalar, tmp_path):
    path = write_gguf(tmp_path / "model.gguf", CASES[name], metadata={f"{name}.block_count": layers})
    assert open_checkpoint(path).config["query_pre_attn_scalar"] == scalar


@pytest.mark.parametrize("pattern", [3, [True, True, False] * 2 + [True]])
def test_gemmas_windows_may_be_stated(pattern, tmp_path):
    path = write_gguf(
        tmp_path / "model.gguf", CASES["gemma3"], metadata={"gemma3.attention.sliding_window_pattern": pattern}
    )
    assert open_checkpoint(path).decoder.windows == (6, 6, 0, 6, 6, 0, 6)


def test_every_end_of_a_file_counts(tmp_path):
    names, kinds = [f"t{i}" for i in range(61)], [1] * 61
    for i, name in {2: "</s>", 5: "<|im_end|>", 9: "<|end|>", 11: "<|eot_id|>"}.items():
        names[i], kinds[i] = name, {9: 1, 5: 4}.get(i, 3)  # <|end|> is plain text, <|im_end|> user-defined
    fields = {"tokenizer.ggml.tokens": names, "tokenizer.ggml.token_type": kinds, "tokenizer.ggml.eot_token_id": 11}
    checkpoint = open_checkpoint(write_gguf(tmp_path / "model.gguf", CASES["qwen2"], metadata=fields))
    assert checkpoint.ends == (2, 11, 5)
    assert checkpoint.generation_config == {"bos_token_id": 1, "eos_token_id": [2, 11, 5]}


def test_the_config_is_written_out_for_other_software(tmp_path):
    """What an export writes of it reads as the file does."""
    checkpoint = open_checkpoint(write_gguf(tmp_path / "model.gguf", CASES["gemma3"]))
    again = json.loads(json.dumps(checkpoint.config))
    assert checkpoint.family.decoder("", again) == checkpoint.decoder
    assert checkpoint.config["rms_norm_eps"] == 1e-5, "the shortest number that is the same float32"
    assert dataclasses.replace(checkpoint, wrapper="x.").where == str(tmp_path / "model.gguf")

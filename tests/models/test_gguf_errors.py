"""GGUF files that are damaged, or that the decoder does not have: one line each, before any weight is read."""

import sys

import numpy as np
import pytest
from models.family_cases import tensor_shapes
from models.gguf_files import CASES, write_gguf

from stepjax.errors import UserError
from stepjax.models import load_pretrained
from stepjax.models.checkpoint_folder import open_checkpoint

CASE = CASES["qwen3"]


def refused(path):
    """The message that a file is refused with."""
    with pytest.raises(UserError) as error:
        load_pretrained(path)
    message = str(error.value)
    assert "\n" not in message and str(path.parent) in message
    return message


@pytest.fixture
def whole(tmp_path):
    return write_gguf(tmp_path / "model.gguf", CASE)


def test_every_cut_is_noticed(whole):
    data = whole.read_bytes()
    for size in [0, 3, 10, 23, *range(24, 2000, 37), len(data) // 2, len(data) - 1]:
        whole.write_bytes(data[:size])
        assert "copy it again" in refused(whole), size


def test_wrong_bytes_are_refused_or_harmless(whole):
    """Nothing but one line comes of a damaged header."""
    data, random = whole.read_bytes(), np.random.default_rng(3)
    refusals = 0
    for _ in range(300):
        damaged = np.frombuffer(data, np.uint8).copy()
        damaged[random.integers(0, 3000, 2)] = random.choice([0, 1, 255, random.integers(256)])
        whole.write_bytes(damaged.tobytes())
        try:
            checkpoint = open_checkpoint(whole)
            _ = checkpoint.decoder, checkpoint.tensors, checkpoint.ends
        except UserError as error:
            assert "\n" not in str(error)
            refusals += 1
    assert refusals > 100


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (b"GGML", "not a GGUF file (it begins with b'GGML')"),
        (b"GGUF\x01\0\0\0", "GGUF version 1 is not supported (there are: 2 and 3, little-endian)"),
        (b"GGUF\0\0\0\x03", "GGUF version 50331648 is not supported"),
    ],
)
def test_other_formats(whole, start, message):
    whole.write_bytes(start + whole.read_bytes()[len(start) :])
    assert message in refused(whole)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"general.architecture": "mamba"}, "architecture 'mamba' is not supported (there are: llama, qwen2, qwen3, "),
        ({"general.alignment": 24}, "general.alignment=24 must be a power of two"),
        ({"qwen3.block_count": None}, "field qwen3.block_count is missing"),
        ({"qwen3.block_count": 1}, "tensor blk.1.attn_norm.weight has no place in a model of architecture qwen3"),
        ({"qwen3.block_count": 3}, "tensor model.layers.2.input_layernorm.weight is missing"),
        ({"qwen3.attention.head_count_kv": [2, 1]}, "qwen3.attention.head_count_kv must be int, not '[2, 1]'"),
        ({"qwen3.attention.head_count": 3}, "3 heads over 2 key heads"),
        ({"qwen3.expert_count": 8}, "qwen3.expert_count=8 is not supported; it must be 0"),
        ({"qwen3.attention.causal": False}, "qwen3.attention.causal=False is not supported; it must be True"),
        ({"qwen3.logit_scale": 2.0}, "qwen3.logit_scale=2.0 is not supported"),
        ({"qwen3.rope.dimension_count": 8}, "qwen3.rope.dimension_count=8 is not supported; it must be 16"),
        ({"qwen3.attention.value_length": 8}, "qwen3.attention.value_length=8 is not supported; it must be 16"),
        ({"qwen3.attention.sliding_window": 8}, "qwen3.attention.sliding_window=8 is not supported; it must be 0"),
        ({"qwen3.rope.scaling.type": "longrope", "qwen3.rope.scaling.factor": 2.0}, "rope type 'longrope' is not"),
        ({"qwen3.rope.scaling.type": "linear"}, "field qwen3.rope.scaling.factor is missing"),
        ({"qwen3.rope.scaling.factor": 2.0}, "qwen3.rope.scaling.factor=2.0 is not supported; it must be 1.0"),
        ({"qwen3.embedding_length": 48}, "embed_tokens.weight has shape [61, 32], the metadata says [61, 48]"),
        ({"tokenizer.ggml.eos_token_id": 99}, "eos_token_id=[99] must be an id below vocab_size=61"),
    ],
)  # fmt: skip
def test_what_the_decoder_does_not_have(metadata, message, tmp_path):
    path = write_gguf(tmp_path / "model.gguf", CASE, metadata=metadata)
    with pytest.raises(UserError) as error:
        checkpoint = open_checkpoint(path)
        assert checkpoint.ends
        load_pretrained(path)
    assert message in str(error.value) and "\n" not in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"rope_freqs.weight": np.full(8, 3.0, np.float32)}, "the factors of rope_freqs.weight are not those of Llama"),
        ({"rope_factors_long.weight": np.ones(8, np.float32)}, "tensor rope_factors_long.weight has no place"),
        ({"blk.0.attn_q.bias": np.ones(64, np.float32)}, "tensor model.layers.0.self_attn.k_proj.bias is missing"),
        ({"blk.1.ffn_up.bias": np.ones(64, np.float32)}, "tensor model.layers.1.mlp.up_proj.bias has no place"),
    ],
)
def test_tensors_too_many(extra, message, tmp_path):
    assert message in refused(write_gguf(tmp_path / "model.gguf", CASE, extra=extra))


def with_kind(path, kind):
    """The file with the first tensor's GGML type changed, which lies before its offset of eight bytes."""
    name = b"token_embd.weight"
    data = bytearray(path.read_bytes())
    at = data.index(name, data.index(b"blk.") if data.index(b"blk.") < data.index(name) else 0) + len(name) + 4 + 16
    data[at : at + 4] = kind.to_bytes(4, "little")
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (77, "tensor token_embd.weight has GGML type 77, which the library gguf does not know"),
        (26, "tensor token_embd.weight is of type I32, which cannot be unpacked; convert the model to another"),
        (12, "tensor token_embd.weight of shape [61, 32] has no whole blocks of Q4_K"),
    ],
)
def test_types_of_numbers(kind, message, whole):
    assert message in refused(with_kind(whole, kind))


def test_a_tensor_that_is_not_there(tmp_path):
    path = write_gguf(tmp_path / "model.gguf", CASE)
    data = path.read_bytes().replace(b"output_norm.weight", b"output_nrom.weight")
    path.write_bytes(data)
    assert "tensor output_nrom.weight has no place" in refused(path)


def test_parts_of_a_split_model(tmp_path):
    write_gguf(tmp_path / "model.gguf", CASE, parts=len(tensor_shapes(CASE)) // 2)
    first, second, *_ = sorted(tmp_path.glob("*.gguf"))
    assert "is part 2 of 3 of a model; name the first, model-00001-of-00003.gguf" in refused(second)
    other = first.with_name("other.gguf")
    other.write_bytes(first.read_bytes())
    assert "is one of 3 parts of a model, but is not named so (…-00001-of-00003.gguf)" in refused(other)
    copy = second.read_bytes()
    second.write_bytes(first.read_bytes())
    assert "is in another part of the model too" in refused(first)
    second.write_bytes(copy)
    second.unlink()
    assert "model-00002-of-00003.gguf: is missing, one of the 3 parts" in refused(first)


def test_names(tmp_path):
    assert "nowhere.gguf: no such file" in refused(tmp_path / "nowhere.gguf")
    (tmp_path / "model.bin").write_bytes(b"")
    assert "is a file; name the folder with its config.json, or a .gguf file" in refused(tmp_path / "model.bin")
    (tmp_path / "folder").mkdir()
    write_gguf(tmp_path / "folder" / "model.gguf", CASE)
    assert "holds no config.json, but model.gguf; name that file" in refused(tmp_path / "folder")


def test_without_the_library(whole, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(UserError, match=r"pip install 'stepjax\[gguf\]'"):
        load_pretrained(whole)

"""Public process reward models whose files hold more, less, or something else than their config says."""

import json

import jax
import numpy as np
import pytest
from rewards.prm_references import save_checkpoint, tensors
from safetensors.numpy import save_file

from stepjax.errors import UserError
from stepjax.models.prm_checkpoint import load_prm
from stepjax.parallel import make_mesh

EMBEDDING, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"
CLASSES = (5, 6)


def load(name, folder, change=lambda tensors: tensors, **config):
    """The model of a convention, its tensors changed."""
    save_checkpoint(name, folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    save_file(change(tensors(name)), str(folder / "model.safetensors"))
    heads = {"qwen": "two_layer", "skywork": "value", "trl": "linear", "rlhflow": "tokens"}
    mesh = make_mesh(1, 1, 1, devices=jax.devices()[:1])
    return load_prm(folder, mesh, head=heads[name], classes=CLASSES)[1]


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_other_heads_are_not_read(tmp_path):
    plain = load("trl", tmp_path / "plain")
    more = {OUTPUT: np.ones((3, 32), np.float32), "v_head.summary.weight": np.ones((1, 32), np.float32)}
    same(load("trl", tmp_path / "more", lambda t: t | more), plain)


def test_the_same_tensors_under_other_prefixes(tmp_path):
    plain = load("skywork", tmp_path / "plain")

    def wrapped(tensors):
        return {n if n.startswith("v_head") else f"pretrained_model.{n}": x for n, x in tensors.items()}

    same(load("skywork", tmp_path / "wrapped", wrapped), plain)
    same(load("skywork", tmp_path / "bare", lambda t: {n.removeprefix("model."): x for n, x in t.items()}), plain)


@pytest.mark.parametrize(
    ("name", "more", "message"),
    [
        ("qwen", "score.4.weight", "tensor score.4.weight has no place"),  # a head of three layers
        ("rlhflow", "lm_head.bias", "tensor lm_head.bias has no place"),
        ("trl", "model.layers.2.mlp.up_proj.weight", "tensor model.layers.2.mlp.up_proj.weight has no place"),
    ],
)
def test_what_would_change_the_scores_is_refused(name, more, message, tmp_path):
    with pytest.raises(UserError, match=message):
        load(name, tmp_path, lambda tensors: tensors | {more: np.ones(3, np.float32)})


def test_the_rows_of_the_classes_are_those_of_the_output_embedding(tmp_path):
    found = load("rlhflow", tmp_path / "untied", tie_word_embeddings=True)  # its two tables differ
    np.testing.assert_array_equal(found["head"].T, tensors("rlhflow")[OUTPUT][list(CLASSES)])
    tied = load(
        "rlhflow", tmp_path / "tied", lambda t: {n: x for n, x in t.items() if n != OUTPUT}, tie_word_embeddings=True
    )
    np.testing.assert_array_equal(tied["head"].T, tensors("rlhflow")[EMBEDDING][list(CLASSES)])
    twice = load("rlhflow", tmp_path / "twice", lambda t: t | {OUTPUT: t[EMBEDDING]}, tie_word_embeddings=True)
    np.testing.assert_array_equal(twice["head"], tied["head"])
    with pytest.raises(UserError, match=r"tensor lm_head.weight is missing: config.json unties the embeddings"):
        load("rlhflow", tmp_path / "none", lambda t: {n: x for n, x in t.items() if n != OUTPUT})

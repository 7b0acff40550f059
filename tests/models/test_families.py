"""Every family against transformers: golden files always, torch itself where it is installed."""

import functools
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models.family_cases import CASES, LENGTHS, WIDTH, padded, probe, tokens, write_checkpoint

from stepjax.models import load_pretrained
from stepjax.models.weights import trunk_place, written_tensors

GOLDEN = Path(__file__).parent / "golden"
PREFILL = 7
"""Columns that the cached pass reads at once, before it goes on token by token."""

FAST = ("qwen2-window", "qwen3-bias", "llama-biases", "mistral-window", "gemma2-caps", "gemma3-alternating")
EACH = [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in CASES]

PACKED = (1, 2)
"""The rows that are packed into one."""


@functools.cache
def found(name):
    """Everything that this package computes for a case, in one program; gradients by the checkpoint's names."""
    case = CASES[name]
    with tempfile.TemporaryDirectory() as folder:
        model = load_pretrained(write_checkpoint(Path(folder), case))
    rows = [np.concatenate(x) for x in zip(padded("left"), padded("right"), packed(), strict=True)]

    @jax.jit
    def compute(params):
        bound = model.definition.bind(params)

        def total(params):
            ids, positions, segments = map(jnp.asarray, rows)
            bound = model.definition.bind(params)
            hidden = bound.trunk(ids, positions, segments)
            chosen, _ = bound.token_logprobs(hidden[:, :-1], ids[:, 1:], chunk=10)
            return (chosen * segments[:, 1:])[3:6].sum(), bound.logits(hidden)

        left = [jnp.asarray(x) for x in padded("left")]
        hidden, cache = bound.trunk.extend(
            *(x[:, :PREFILL] for x in left), bound.trunk.empty_cache(3, WIDTH), fresh=True
        )

        def step(cache, row):
            hidden, cache = bound.trunk.extend(*(x[:, None] for x in row), cache)
            return cache, hidden[:, 0]

        _, later = jax.lax.scan(step, cache, tuple(x[:, PREFILL:].T for x in left))
        stepped = bound.logits(jnp.concatenate([hidden, later.swapaxes(0, 1)], axis=1))
        gradient, logits = jax.grad(total, has_aux=True)(params)
        return {"left": logits[:3], "right": logits[3:6], "packed": logits[6], "stepped": stepped}, gradient

    result, gradient = jax.device_get(compute(model.params))
    places = {path: trunk_place(model.family, path, model.config.layers) for path in model.definition.paths}
    shapes, tensors = written_tensors(places, jax.device_put(gradient), model.mesh, model.config.vocab)
    return result, dict(zip(shapes, tensors, strict=True))


def packed():
    """The last two rows in one: `padded` of a third kind."""
    found = [np.zeros((1, WIDTH), np.int32) for _ in range(3)]
    at = 0
    for i in PACKED:
        n = LENGTHS[i]
        for array, value in zip(found, (tokens()[i, :n], np.arange(n), i + 1), strict=True):
            array[0, at : at + n] = value
        at += n
    return found


def close(ours, theirs, top):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * top)


@pytest.mark.parametrize("name", EACH)
def test_golden(name):
    ours, gradients = found(name)
    with np.load(GOLDEN / f"{name}.npz") as file:
        theirs = dict(file)
    top = np.abs(theirs["alone0"]).max()
    at = 0
    for i, n in enumerate(LENGTHS):
        close(ours["left"][i, WIDTH - n :], theirs["left"][i, WIDTH - n :], top)
        close(ours["left"][i, WIDTH - n :], theirs[f"alone{i}"], top)
        close(ours["stepped"][i, WIDTH - n :], theirs["left"][i, WIDTH - n :], top)
        close(ours["right"][i, :n], theirs["right"][i, :n], top)
    for i in PACKED:
        close(ours["packed"][at : at + LENGTHS[i]], theirs[f"alone{i}"], top)
        at += LENGTHS[i]
    assert all(np.isfinite(x).all() for x in ours.values())
    names = {name.removeprefix("gradient ") for name in theirs if name.startswith("gradient ")}
    assert gradients.keys() == names
    for tensor, gradient in gradients.items():
        length, projection = theirs[f"gradient {tensor}"]
        assert length > 1e-3, tensor
        assert abs(np.linalg.norm(gradient) - length) <= 1e-3 * length, tensor
        # A projection on a random direction is about as long as the gradient: 1e-3 of that.
        assert abs(np.sum(gradient * probe(tensor, gradient.shape)) - projection) <= 1e-3 * length, tensor


@pytest.mark.parametrize("name", EACH)
def test_live(name, tmp_path):
    pytest.importorskip("torch")
    from models import torch_reference

    ours, gradients = found(name)
    model = torch_reference.load(write_checkpoint(tmp_path, CASES[name]))
    top = np.abs(torch_reference.alone(model)[0]).max()
    for side in ("left", "right"):
        theirs, real = torch_reference.logits(model, side), padded(side)[2] > 0
        close(ours[side][real], theirs[real], top)
    for tensor, theirs in torch_reference.gradients(model).items():
        assert np.linalg.norm(gradients[tensor] - theirs) <= 1e-3 * np.linalg.norm(theirs), tensor

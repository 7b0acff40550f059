"""Rows that are cut over the mesh axis `context`: losses and gradients of one device, in all families."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models.family_cases import CASES, VOCAB
from models.tiny import random_params

from stepjax.models import Definition, LanguageModel
from stepjax.models.families import family_of
from stepjax.parallel import batch_sharding, make_mesh, put, row_parts
from stepjax.row_parts import cut, joined

ROWS, WIDTH = 4, 32
MESHES = [(2, 2, 1, 2), (1, 1, 1, 8), (1, 1, 2, 4)]
LENGTHS = ((32,), (9, 14, 6), (1, 30), (20,))
"""Tokens of the segments of each packed row; the rest is padding."""
FAST = (("qwen2-window", MESHES[0]), ("gemma3-alternating", MESHES[1]))


def rows() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    batch = {name: np.zeros((ROWS, WIDTH), np.int32) for name in ("tokens", "positions", "segments", "targets")}
    for r, lengths in enumerate(LENGTHS):
        at = 0
        for segment, n in enumerate(lengths):
            here, tokens = slice(at, at + n), rng.integers(3, VOCAB, n)
            of = {"tokens": tokens, "positions": np.arange(n), "segments": segment + 1, "targets": [*tokens[1:], 0]}
            for name, x in of.items():
                batch[name][r, here] = x
            at += n
    # All of one sign: a loss that the terms leave near 0 has no digits to compare.
    weight = np.abs(rng.normal(size=(ROWS, WIDTH))).astype(np.float32)
    return batch | {"weight": weight * (batch["segments"] > 0)}


@functools.cache
def definition(case: str, policy: str = "full"):
    decoder = family_of("", CASES[case]).decoder("", CASES[case])
    decoder = dataclasses.replace(decoder, remat=True, remat_policy=policy)
    return Definition(lambda rngs: LanguageModel(decoder, rngs))


@functools.cache
def read(case: str, mesh: tuple[int, ...], policy: str = "full"):
    """(loss, log-probabilities in their rows, gradients of the parameters)."""
    on, of = make_mesh(*mesh, devices=jax.devices()[: int(np.prod(mesh))]), definition(case, policy)
    parts = row_parts(on)

    @jax.jit
    def run(params, batch):
        def loss(params):
            model = of.bind(params)
            hidden = model.trunk(batch["tokens"], batch["positions"], batch["segments"], parts=parts)
            logprobs, entropy = model.token_logprobs(hidden, batch["targets"], chunk=3)
            return jnp.sum((logprobs + 0.3 * entropy) * batch["weight"]) / WIDTH, logprobs

        return jax.value_and_grad(loss, has_aux=True)(params)

    # Smaller than elsewhere: deep sums of large numbers round to more than 1e-5 on any two meshes, without context too.
    params = jax.device_put(jax.tree.map(lambda x: 0.45 * x, random_params(of, 3)), of.shardings(on))
    with jax.set_mesh(on):
        (loss, logprobs), gradient = run(params, put(cut_all(rows(), parts), batch_sharding(on)))
    return float(loss), joined(np.asarray(logprobs), parts), jax.device_get(gradient)


def cut_all(batch, parts):
    return {name: cut(x, parts) for name, x in batch.items()}


def cases():
    return [pytest.param(c, m, marks=() if (c, m) in FAST else pytest.mark.slow) for c in CASES for m in MESHES]


@pytest.mark.parametrize(("case", "mesh"), cases())
def test_every_family_has_the_loss_and_gradients_of_one_device(case, mesh):
    (wanted, logprobs, gradient), (found, ours, of_ours) = read(case, (1, 1, 1)), read(case, mesh)
    assert found == pytest.approx(wanted, rel=1e-5)
    inside = rows()["segments"] > 0
    np.testing.assert_allclose(ours[inside], logprobs[inside], atol=1e-5, rtol=1e-5)
    for (path, a), b in zip(jax.tree.leaves_with_path(of_ours), jax.tree.leaves(gradient), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5, err_msg=jax.tree_util.keystr(path))
    assert max(np.abs(x).max() for x in jax.tree.leaves(gradient)) > 0.1


@pytest.mark.parametrize("mesh", [(1, 1, 1), pytest.param((1, 1, 2, 4), marks=pytest.mark.slow)])
def test_layer_inputs_that_wait_in_the_memory_of_the_host_change_nothing(mesh):
    for a, b in zip(*(jax.tree.leaves(read("qwen2-window", mesh, p)) for p in ("offload", "full")), strict=True):
        np.testing.assert_array_equal(a, b)

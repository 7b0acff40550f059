"""The update on weighted tokens near a reference: by hand; one device against eight."""

import functools

import jax
import numpy as np
import optax
import pytest
from models.tiny import CONFIG, policy, policy_params

from stepjax.data.packing import Example, pack_all
from stepjax.learners.optimizers import abstract_state, init_state
from stepjax.learners.supervised import put_batch, train_program, weighted_sums
from stepjax.parallel import fetch, make_mesh

ROWS, WIDTH, KL = 8, 16, 0.3
DESCENT = optax.sgd(1.0)


@functools.cache
def examples() -> tuple[Example, ...]:
    """Three examples, of which some tokens are learned, with weights from 0.1 to 1."""
    rng, found = np.random.default_rng(0), []
    for n in (9, 5, 7):
        tokens = rng.integers(0, CONFIG.vocab, n).astype(np.int32)
        learned = np.append(rng.random(n - 1) < 0.7, False)
        weights = np.where(learned, rng.uniform(0.1, 1, n), 0).astype(np.float32)
        found.append(Example(tokens, np.where(learned, np.append(tokens[1:], -1), -1).astype(np.int32), weights))
    return tuple(found)


def reference_params():
    return jax.tree.map(lambda x: 0.7 * x + 0.01, policy_params())


def update(mesh_shape: tuple[int, ...]):
    """(gradient, metrics) of one update."""
    mesh = make_mesh(*mesh_shape, devices=jax.devices()[: int(np.prod(mesh_shape))])
    sums = functools.partial(weighted_sums, kl=KL)
    made = train_program("improve", sums, policy(), DESCENT, mesh, rows=ROWS, width=WIDTH, values=True, reference=True)
    (batch,) = pack_all(examples(), rows=ROWS, width=WIDTH)
    own, other = (jax.device_put(x, policy().shardings(mesh)) for x in (policy_params(), reference_params()))
    state = init_state(own, DESCENT, abstract_state(policy(), DESCENT, mesh), mesh)
    state, metrics = made(state, put_batch(batch, mesh), other)
    return jax.tree.map(lambda old, new: np.asarray(old) - np.asarray(new), policy_params(), state["params"]), fetch(
        metrics
    )


def test_the_loss_is_that_of_a_plain_loop():
    (batch,) = pack_all(examples(), rows=len(examples()), width=10)  # too narrow for two in a row

    @jax.jit
    def measured(own, other):
        model, still = policy().bind(own), policy().bind(other)
        return weighted_sums(model, batch, reference=still, kl=KL), model(batch["tokens"]), still(batch["tokens"])

    (found, counts), *logits = jax.tree.map(np.asarray, measured(policy_params(), reference_params()))
    loss = divergence = total = 0.0
    for row, one in enumerate(examples()):
        assert one.values is not None and batch["tokens"][row, : len(one.tokens)].tolist() == one.tokens.tolist()
        for t, (target, weight) in enumerate(zip(one.targets, one.values, strict=True)):
            if target < 0:
                continue
            p, q = (x[row, t].astype(np.float64) for x in logits)
            p, q = p - np.log(np.exp(p).sum()), q - np.log(np.exp(q).sum())
            loss -= weight * p[target]
            divergence += weight * np.sum(np.exp(p) * (p - q))
            total += weight
    wanted = {"tokens": total, "target_loss": loss, "kl": divergence}
    assert counts.keys() == wanted.keys() and divergence > 0.05 and 0 < total < 12
    for name, value in wanted.items():
        np.testing.assert_allclose(counts[name], value, rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(found, loss + KL * divergence, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("mesh_shape", [(8, 1, 1), (1, 4, 2), (1, 1, 1, 8)])
def test_sharded_equals_one_device(mesh_shape):
    (wanted, wanted_metrics), (found, metrics) = update((1, 1, 1)), update(mesh_shape)
    assert metrics["loss"] == pytest.approx(metrics["target_loss"] + KL * metrics["kl"], rel=1e-4)
    for (path, a), b in zip(jax.tree.leaves_with_path(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=jax.tree_util.keystr(path))
    for name in wanted_metrics:
        np.testing.assert_allclose(metrics[name], wanted_metrics[name], rtol=1e-4, atol=1e-5)

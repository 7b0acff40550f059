"""Logits only where a loss or a score reads them: the numbers and gradients of all positions, no more on the mesh."""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learners.ppo_case import CUT, MESHES, B, T, mesh, scored
from learners.test_context import crossings
from models.tiny import CONFIG, policy, policy_params

from stepjax.kept import Kept, KeptIds
from stepjax.learners.packing import PackingShape, micro_batch, over_micro_batches, pack
from stepjax.models.read_positions import chunk_turns, over_read
from stepjax.parallel import batch_sharding, put

WEIGHTS = np.random.default_rng(5).normal(size=(2, B, T)).astype(np.float32)
SLOW = pytest.mark.slow


@functools.cache
def passed(on: tuple[int, ...], read: bool):
    """Log-probabilities' and entropies' gradients over packed rows, what each device reads, and the compiled text."""
    devices = mesh(on)
    shape = PackingShape.on(devices, B, T, row_tokens=2 * T, micro_tokens=4 * T)

    def loss(params, batch):
        model = policy().bind(params)
        hidden = model.trunk(*batch.read, parts=batch.parts)
        asked = {"temperature": 0.8, "chunk": 5}
        if read:
            asked |= {"read": batch.mask, "most": batch.most}
        found = model.token_logprobs(hidden, batch.targets, **asked)
        weights = batch.columns["a"], batch.columns["b"]
        return sum(jnp.sum(jnp.where(batch.mask, x * w, 0.0)) for x, w in zip(found, weights, strict=True))

    def run(params, rows, a, b):
        packing = pack(rows, jnp.arange(B), shape)

        def add(i, so_far):
            batch = micro_batch(rows, packing, i, {"a": a, "b": b})
            value, gradient = jax.value_and_grad(loss)(params, batch)
            return so_far[0] + value, jax.tree.map(jnp.add, so_far[1], gradient)

        start = jnp.zeros(()), jax.tree.map(jnp.zeros_like, params)
        masks = [micro_batch(rows, packing, jnp.int32(i), {}).mask for i in range(shape.turns(B))]
        return over_micro_batches(packing, add, start), packing.most, masks

    params = jax.device_put(policy_params(), policy().shardings(devices))
    with jax.set_mesh(devices):
        given = params, *put((scored(), *WEIGHTS), batch_sharding(devices))
        program = jax.jit(run).lower(*given).compile()
        return jax.device_get(program(*given)), program.as_text(), shape


@pytest.mark.parametrize("on", [MESHES[0], *(pytest.param(m, marks=SLOW) for m in (*MESHES[1:], *CUT))])
def test_losses_and_gradients_are_those_of_all_positions(on):
    (found, most, masks), _, shape = passed(on, True)
    wanted = passed(MESHES[0], False)[0][0]
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    for bound, mask in zip(most, masks, strict=True):
        reads = mask.reshape(shape.devices * shape.parts, -1).sum(axis=1).max()
        assert bound == reads if shape.parts == 1 else reads <= bound <= 2 * T * mask.shape[0]


@pytest.mark.slow
@pytest.mark.parametrize("on", [*MESHES[1:], CUT[0]])
def test_nothing_more_crosses_the_mesh(on):
    counts = [collections.Counter(kind for kind, *_ in crossings(passed(on, read)[1])) for read in (True, False)]
    assert counts[0] <= counts[1] and counts[1].total() > 0


def draw(rows, length, seed=0):
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(rows, length, CONFIG.width)).astype(np.float32)
    return hidden, rng.integers(0, CONFIG.vocab, (rows, length)).astype(np.int32), rng.random((rows, length)) < 0.3


@pytest.mark.parametrize("entropy", [True, False])
def test_with_the_tokens_that_a_sampler_kept(entropy):
    hidden, targets, read = draw(3, 14)
    ids = (targets[..., None] + np.array([0, 5, 9])) % CONFIG.vocab
    kept = Kept(jnp.asarray(ids), KeptIds(3))
    model = policy().bind(policy_params())

    def plain(hidden, target, ids):
        scores = np.asarray(model.logits(hidden), np.float64)[ids] / 0.7
        chances = np.exp(scores) / np.exp(scores).sum()
        return np.log(chances[0]), -np.sum(chances * np.log(chances)) * entropy

    wanted = np.zeros((2, 3, 14))
    for r, t in zip(*np.nonzero(read), strict=True):
        wanted[:, r, t] = plain(hidden[r, t], targets[r, t], ids[r, t])
    found = model.token_logprobs(
        jnp.asarray(hidden), targets, temperature=0.7, kept=kept, entropy=entropy, read=jnp.asarray(read), chunk=4
    )
    np.testing.assert_allclose(np.where(read, np.stack(found), 0), wanted, atol=2e-6)


@pytest.mark.parametrize("width", [CONFIG.width, 20])
@pytest.mark.parametrize("reads", [0, 1, 8, 9, 28])
def test_chunks_are_computed_as_far_as_positions_are_read_and_no_further(reads, width):
    hidden, targets, _ = draw(2, 14)
    hidden = hidden[..., :width]
    read = np.zeros(28, bool)
    read[np.random.default_rng(reads).permutation(28)[:reads]] = True
    turns = []

    def product(weight, states):
        jax.debug.callback(lambda: turns.append(1))
        return weight * states

    def piece(made, rest):
        return (jnp.sum(made, -1) + rest,)

    @jax.jit
    @jax.value_and_grad
    def loss(weight, read):
        most = jnp.sum(read, dtype=jnp.int32)
        (found,) = over_read(product, piece, weight, jnp.asarray(hidden), targets, read, most, chunk=4)
        return jnp.sum(found)

    value, gradient = loss(2.0, jnp.asarray(read.reshape(2, 14)))
    jax.effects_barrier()
    sums = hidden.reshape(28, -1).sum(1)[read]
    assert value == pytest.approx(2 * sums.sum() + targets.reshape(-1)[read].sum(), rel=1e-4, abs=1e-4)
    assert gradient == pytest.approx(sums.sum(), rel=1e-4, abs=1e-4)
    assert len(turns) == 2 * chunk_turns(reads, 8), "once forward, once for the gradient"


def test_a_matrix_that_stands_still_has_no_gradient():
    """Under adapters, say: the products for it are not made, and the others are what they are with it."""
    hidden, targets, read = draw(2, T)
    table = np.random.default_rng(1).normal(size=(CONFIG.width, CONFIG.vocab)).astype(np.float32)

    def product(table, states):
        return states @ table

    def piece(made, targets):
        return (jnp.take_along_axis(made, targets[..., None], axis=-1)[..., 0], jax.nn.logsumexp(made, axis=-1))

    def loss(table, hidden):
        most = jnp.int32(read.sum())
        chosen, _ = over_read(product, piece, table, hidden, targets, read, most, chunk=4)
        return jnp.sum(jnp.where(read, chosen, 0.0) * WEIGHTS[0, :2])

    alone, both = jax.grad(loss, 1), jax.grad(loss, (0, 1))
    products = [str(jax.make_jaxpr(f)(table, jnp.asarray(hidden))).count("dot_general[") for f in (alone, both)]
    assert products[1] == products[0] + 1
    np.testing.assert_array_equal(jax.jit(alone)(table, hidden), jax.jit(both)(table, hidden)[1])

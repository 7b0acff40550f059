"""A small round of PPO that the learners' tests share: its options, its scored rows, their credit."""

import dataclasses
import functools

import jax
import numpy as np
import optax
from learners.padded import token_values
from models.tiny import CONFIG, policy, policy_params, scorer, scorer_params

from stepjax.config import PPOOptions, StreamOptions
from stepjax.learners.own_loops import token_logprobs
from stepjax.learners.ppo import credit_program
from stepjax.parallel import batch_sharding, fetch, make_mesh, put
from stepjax.programs import abstract
from stepjax.steps import Steps
from stepjax.trajectory import Trajectory

B, P, NEW = 8, 4, 8
T = P + NEW
STREAMS = {
    "process": StreamOptions(signal="prm", horizon="step", gamma=0.9, lam=0.8, neutral=0.3),
    "outcome": StreamOptions(signal="outcome", horizon="response", weight=0.5, whiten=False),
    "kl": StreamOptions(signal="kl", horizon="0.5", gamma=0.95, weight=0.7, whiten=False, critic=False),
}
OPTIONS = PPOOptions(
    temperature=0.8, epochs=2, minibatches=2, clip_low=0.2, clip_high=0.3, dual_clip=1.5, value_clip=0.2, kl=0.3,
    entropy=0.1, streams=STREAMS,
)  # fmt: skip
WITHOUT_CRITIC = dataclasses.replace(
    OPTIONS, streams={name: dataclasses.replace(s, critic=False) for name, s in STREAMS.items()}
)
RATE = 0.02  # of plain gradient descent: Adam would turn rounding of small gradients into whole steps
OPTIMIZERS = {"policy": optax.sgd(RATE), "critic": optax.sgd(RATE)}
MESHES = [(1, 1, 1), (8, 1, 1), (1, 4, 2)]
CUT = [(2, 2, 1, 2), (1, 1, 1, 8)]
"""Meshes that cut packed rows into parts: two on each of four groups, eight."""


@functools.cache
def mesh(shape: tuple[int, ...]):
    return make_mesh(*shape, devices=jax.devices()[: int(np.prod(shape))])


@functools.cache
def scored() -> Trajectory:
    """Random responses as the score program leaves them: three steps or fewer a row, half of the rows truncated."""
    rng = np.random.default_rng(0)
    response_length = np.array([8, 5, 1, 8, 3, 6, 8, 7], np.int32)
    mask = (np.arange(T) >= P) & (np.arange(T) < P + response_length[:, None])
    end = mask & ((rng.random((B, T)) < 0.3) | (np.arange(T) == P + response_length[:, None] - 1))
    index = np.where(mask, np.cumsum(end, axis=1) - end, -1)
    rows = Trajectory(
        tokens=rng.integers(0, CONFIG.vocab, (B, T)).astype(np.int32),
        prompt_length=rng.integers(2, P + 1, B).astype(np.int32),
        response_length=response_length,
        finished=np.arange(B) % 2 == 1,
        logprobs=np.zeros((B, T), np.float32),
        prompt_width=P,
        steps=Steps(index=index.astype(np.int32), end=end),
    )

    @jax.jit
    def read(rows):
        own, entropy = token_logprobs(policy(), policy_params(), rows, temperature=OPTIONS.temperature)
        return own, entropy, *token_values(scorer().bind(scorer_params()), rows)

    own, entropy, values, bootstrap = fetch(read(rows))

    def near(x, spread):
        return (x + spread * rng.normal(size=x.shape)).astype(np.float32)

    return dataclasses.replace(
        rows,
        logprobs=np.where(mask, near(own, 0.4), 0.0),
        old_logprobs=np.where(mask, near(own, 0.4), 0.0),
        ref_logprobs=np.where(mask, near(own, 0.4), 0.0),
        entropy=entropy,
        values=np.where(mask[:, None], near(values, 0.3), 0.0),
        bootstrap=bootstrap,
        prm=rng.dirichlet([1, 1, 1], (B, T)).astype(np.float32),
    )


HOST = {"rating": np.zeros((B, T), np.float32), "correct": np.arange(B) < 4}


@functools.cache
def credit_of(without_critic: bool, shape: tuple[int, ...] = (1, 1, 1)):
    """The credit program, the abstract rows that it returns, the rows and the metrics."""
    options, rows = OPTIONS, scored()
    if without_critic:
        options, rows = WITHOUT_CRITIC, dataclasses.replace(rows, values=None, bootstrap=None)
    program = credit_program(options, mesh(shape), abstract(put(rows, batch_sharding(mesh(shape)))))
    found, metrics = program(*put((rows, HOST), batch_sharding(mesh(shape))))
    return program.outputs()[0], fetch(found), fetch(metrics)


def credit(options: PPOOptions, rows: Trajectory) -> Trajectory:
    """One credited batch of other streams, on one device."""
    by_row = batch_sharding(mesh(MESHES[0]))
    program = credit_program(options, mesh(MESHES[0]), abstract(put(rows, by_row)))
    return fetch(program(*put((rows, HOST), by_row))[0])


def assert_close(found, wanted, atol=1e-5):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for (path, a), b in zip(jax.tree.leaves_with_path(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=atol, err_msg=jax.tree_util.keystr(path))


def distance(a, b) -> float:
    return max(float(np.abs(x - y).max()) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))

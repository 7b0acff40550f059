"""What the options of an update change, against plain loops over minibatches: losses, guards, coefficients, critics."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learners.ppo_case import (
    MESHES,
    OPTIMIZERS,
    OPTIONS,
    RATE,
    WITHOUT_CRITIC,
    B,
    assert_close,
    credit_of,
    distance,
    mesh,
    policy,
    policy_params,
    scorer,
    scorer_params,
)

from stepjax.config import PPOOptions
from stepjax.credit.divergence import kl_estimate
from stepjax.credit.whiten import masked_mean
from stepjax.learners.optimizers import abstract_state, init_state
from stepjax.learners.update import update_program, updates_by_role
from stepjax.parallel import batch_sharding, fetch, put, replicated
from stepjax.programs import Program
from stepjax.trajectory import Trajectory

ALONE = dataclasses.replace(WITHOUT_CRITIC, epochs=1, minibatches=4)
"""The policy alone, four minibatches of two responses."""
BOTH = dataclasses.replace(OPTIONS, epochs=1)
"""Policy and critic, two minibatches of four."""
PARAMS = {"policy": (policy, policy_params), "critic": (scorer, scorer_params)}


programs: dict[str, Program] = {}


def update(options: PPOOptions, rows: Trajectory, shape=(1, 1, 1), iteration=3, kl=None):
    """(state, metrics) after one round; `kl` the coefficient where it is adapted."""
    roles = ("policy",) if options.streams == WITHOUT_CRITIC.streams else ("policy", "critic")
    on = mesh(shape)
    name = repr((options, shape))
    if name not in programs:
        critic = scorer() if "critic" in roles else None
        like = credit_of(critic is None, shape)[0]
        programs[name] = update_program(options, policy(), critic, OPTIMIZERS, on, like)
    state = {}
    for role in roles:
        definition, params = PARAMS[role][0](), PARAMS[role][1]()
        placed = jax.device_put(params, definition.shardings(on))
        state[role] = init_state(placed, OPTIMIZERS[role], abstract_state(definition, OPTIMIZERS[role], on), on)
    whole = replicated(on)
    if kl is not None:
        state["kl"] = put(np.float32(kl), whole)
    key = jax.device_put(jax.random.key(5), whole)
    return fetch(programs[name](state, put(rows, batch_sharding(on)), key, put(np.int32(iteration), whole)))


@functools.cache
def rows() -> Trajectory:
    return credit_of(True)[1]


@functools.partial(jax.jit, static_argnames="loss")
def descend(params, batch: Trajectory, shares, coefficient, loss: str):
    """Parameters after one step down Σ share × the token's loss, and each token's ratio."""
    o = ALONE

    def objective(params):
        model = policy().bind(params)
        logits = model.logits(model.trunk(batch.tokens, batch.positions, batch.segments)) / o.temperature
        every = jax.nn.log_softmax(logits)[:, :-1]
        logprobs = jnp.pad(jnp.take_along_axis(every, batch.tokens[:, 1:, None], -1)[..., 0], ((0, 0), (1, 0)))
        entropy = jnp.pad(-(jnp.exp(every) * every).sum(-1), ((0, 0), (1, 0)))
        w, ratio = batch.policy_weight, jnp.exp(logprobs - batch.old_logprobs)
        gain = jnp.minimum(ratio * w, jnp.clip(ratio, 1 - o.clip_low, 1 + o.clip_high) * w)
        gain = jnp.where(w < 0, jnp.maximum(gain, o.dual_clip * w), gain) if loss == "ppo" else w * logprobs
        x = batch.ref_logprobs - logprobs
        losses = -gain + coefficient * (jnp.exp(x) - 1 - x) - o.entropy * entropy
        return jnp.sum(jnp.where(shares > 0, shares * losses, 0.0)), ratio

    gradient, ratio = jax.grad(objective, has_aux=True)(params)
    return jax.tree.map(lambda p, g: p - RATE * g, params, gradient), ratio


def token_shares(batch: Trajectory, unit: str) -> np.ndarray:
    """What each token counts in the mean, by a walk over responses and steps."""
    mask, end = np.asarray(batch.mask), batch.steps.end
    units = []
    for b in range(len(mask)):
        row = [[]]
        for t in np.flatnonzero(mask[b]):
            row[-1].append((b, t))
            if unit == "token" or (unit == "step" and end[b, t]):
                row.append([])
        units += [tokens for tokens in row if tokens]
    shares = np.zeros(mask.shape, np.float32)
    for tokens in units:
        for at in tokens:
            shares[at] = 1 / len(tokens) / len(units)
    return shares


def by_hand(options: PPOOptions, held_back=lambda figures: False):
    """Gradient descent minibatch by minibatch; one for which `held_back` is true changes nothing."""
    params, lines = policy_params(), []
    order = fetch(jax.random.permutation(jax.random.split(jax.random.fold_in(jax.random.key(5), 3), 1)[0], B))
    for chosen in order.reshape(options.minibatches, -1):
        batch = jax.tree.map(lambda x, chosen=chosen: np.asarray(x)[chosen], rows())
        new, ratio = descend(params, batch, token_shares(batch, options.reduce), options.kl, options.loss)
        ratio = np.asarray(ratio, np.float64)[np.asarray(batch.mask)]
        lines.append({"kl": np.mean(ratio - 1 - np.log(ratio)), "max": ratio.max(), "mean": ratio.mean()})
        if not held_back(lines[-1]):
            params = new
    return fetch(params), lines


@pytest.mark.parametrize(("loss", "unit"), [("reinforce", "token"), ("ppo", "step"), ("reinforce", "sequence")])
def test_losses_and_their_means_are_what_their_equations_say(loss, unit):
    options = dataclasses.replace(ALONE, loss=loss, reduce=unit, minibatches=2)
    state, metrics = update(options, rows())
    assert_close(state["policy"]["params"], by_hand(options)[0])
    assert (metrics["policy/clip_fraction"] == 0) == (loss == "reinforce")


@functools.cache
def figures() -> list[dict[str, float]]:
    """Of each minibatch, where none is held back."""
    return by_hand(ALONE)[1]


def between(values: list[float]) -> float:
    """A bound that some of the values exceed and some do not, far from all of them."""
    ordered = sorted(values)
    gaps = [b / a for a, b in itertools.pairwise(ordered)]
    at = int(np.argmax(gaps))
    assert gaps[at] > 1.02
    return float(np.sqrt(ordered[at] * ordered[at + 1]))


def test_a_divergence_beyond_the_stop_ends_the_round():
    bound = max(f["kl"] for f in figures()[:2]) * 0.999  # the first or the second minibatch is above it
    stopped: list[bool] = []

    def held_back(f):
        stopped.append(bool(stopped and stopped[-1]) or f["kl"] > bound)
        return stopped[-1]

    options = dataclasses.replace(ALONE, kl_stop=bound)
    state, metrics = update(options, rows())
    wanted, lines = by_hand(options, held_back)
    assert stopped[-1] and stopped == sorted(stopped)
    assert_close(state["policy"]["params"], wanted)
    np.testing.assert_allclose(metrics["policy/stopped"], np.mean(stopped))
    assert metrics["policy/skipped"] == 0
    np.testing.assert_allclose(metrics["kl/update"], np.mean([f["kl"] for f in lines]), rtol=1e-4)


def test_a_stop_at_once_leaves_every_bit_as_it_was():
    state, metrics = update(dataclasses.replace(BOTH, kl_stop=1e-6), credit_of(False)[1])
    assert metrics["policy/stopped"] == 1.0
    for role, before in (("policy", policy_params()), ("critic", scorer_params())):
        assert distance(state[role]["params"], before) == 0.0


@pytest.mark.parametrize(("option", "figure"), [("ratio_guard", "max"), ("mean_ratio_guard", "mean")])
def test_a_minibatch_beyond_the_ratio_guard_is_skipped(option, figure):
    bound = between([f[figure] for f in figures()])
    options = dataclasses.replace(ALONE, **{option: bound})
    state, metrics = update(options, rows())
    wanted, lines = by_hand(options, lambda f: f[figure] > bound)
    skipped = [f[figure] > bound for f in lines]
    assert 0 < sum(skipped) < 4
    assert_close(state["policy"]["params"], wanted)
    assert metrics["policy/skipped"] == np.mean(skipped) and metrics["policy/stopped"] == 0


def test_guards_that_nothing_meets_change_nothing():
    options = dataclasses.replace(ALONE, kl_stop=1e3, ratio_guard=1e6, mean_ratio_guard=1e6)
    state, metrics = update(options, rows())
    assert_close(state["policy"]["params"], update(ALONE, rows())[0]["policy"]["params"], atol=1e-7)
    assert metrics["policy/skipped"] == metrics["policy/stopped"] == 0


def test_the_adapted_coefficient_is_used_and_kept():
    x = np.asarray(rows().ref_logprobs - rows().old_logprobs, np.float64)[np.asarray(rows().mask)]
    divergence = np.mean(np.exp(x) - 1 - x)
    state, metrics = update(dataclasses.replace(ALONE, kl_target=float(divergence / 1.1), kl=0.7), rows(), kl=0.3)
    assert state["kl"].dtype == np.float32
    np.testing.assert_allclose(state["kl"], 0.3 * (1 + 0.1 * 0.1), rtol=1e-5)
    np.testing.assert_allclose(metrics["kl/coefficient"], 0.3)
    assert_close(state["policy"]["params"], by_hand(dataclasses.replace(ALONE, kl=0.3))[0])


def test_first_rounds_train_the_critic_alone():
    credited = credit_of(False)[1]
    for iteration in (2, 3):
        plain, _ = update(BOTH, credited, iteration=iteration)
        state, metrics = update(dataclasses.replace(BOTH, critic_warmup=2), credited, iteration=iteration)
        assert_close(state["critic"]["params"], plain["critic"]["params"], atol=1e-7)
        if iteration == 2:
            assert distance(state["policy"]["params"], policy_params()) == 0.0
        else:
            assert_close(state["policy"]["params"], plain["policy"]["params"], atol=1e-7)
        assert metrics["grad_norm/policy"] > 0


def test_a_frozen_critic_stays_and_the_policy_does_not():
    credited = credit_of(False)[1]
    plain, _ = update(BOTH, credited)
    state, metrics = update(dataclasses.replace(BOTH, critic_frozen=True), credited)
    assert distance(state["critic"]["params"], scorer_params()) == 0.0
    assert_close(state["policy"]["params"], plain["policy"]["params"], atol=1e-7)
    assert not [name for name in metrics if name.startswith("value_loss") or name.endswith("critic")]


def test_refits_train_the_critic_alone_and_other_rounds_the_policy_alone():
    credited = credit_of(False)[1]
    options = dataclasses.replace(BOTH, critic_refit=3)
    for iteration, refitted in ((1, True), (2, False), (3, False), (4, True)):
        plain, _ = update(BOTH, credited, iteration=iteration)
        state, _ = update(options, credited, iteration=iteration)
        learns, stays = ("critic", "policy") if refitted else ("policy", "critic")
        assert_close(state[learns]["params"], plain[learns]["params"], atol=1e-7)
        assert distance(state[stays]["params"], PARAMS[stays][1]()) == 0.0


@pytest.mark.parametrize(
    "warmup, refit, policy_rounds, critic_rounds", [(0, 0, 7, 7), (2, 0, 5, 7), (0, 3, 4, 3), (2, 3, 3, 4)]
)
def test_schedules_span_the_rounds_that_train_a_role(warmup, refit, policy_rounds, critic_rounds):
    options = dataclasses.replace(BOTH, iterations=7, critic_warmup=warmup, critic_refit=refit)
    each = options.epochs * options.minibatches
    assert updates_by_role(options) == {"policy": policy_rounds * each, "critic": critic_rounds * each}


def test_a_streams_weight_is_adapted_to_the_divergence():
    divergence = masked_mean(kl_estimate(rows().old_logprobs, rows().ref_logprobs, "k3", mask=rows().mask), rows().mask)
    streams = dict(ALONE.streams, kl=dataclasses.replace(ALONE.streams["kl"], kl_target=float(divergence / 1.1)))
    options = dataclasses.replace(ALONE, streams=streams)
    on = mesh((1, 1, 1))
    program = update_program(options, policy(), None, OPTIMIZERS, on, credit_of(True)[0])
    params = jax.device_put(policy_params(), policy().shardings(on))
    like = abstract_state(policy(), OPTIMIZERS["policy"], on)
    state = {"policy": init_state(params, OPTIMIZERS["policy"], like, on)}
    state["weights"] = put({"kl": np.float32(0.7)}, replicated(on))
    key = jax.device_put(jax.random.key(5), replicated(on))
    after, _ = fetch(program(state, put(rows(), batch_sharding(on)), key, put(np.int32(3), replicated(on))))
    np.testing.assert_allclose(after["weights"]["kl"], 0.7 * (1 + 0.1 * 0.1), rtol=1e-5)


@pytest.mark.slow
def test_all_of_it_on_eight_devices_is_that_of_one():
    shape = MESHES[-1]
    bound = between([f["max"] for f in figures()])
    options = dataclasses.replace(
        BOTH, reduce="step", loss="reinforce", kl_target=0.05, kl_stop=100.0, ratio_guard=bound * 100
    )
    ours, theirs = (update(options, credit_of(False, s)[1], s, kl=0.3) for s in (MESHES[0], shape))
    assert_close(theirs, ours)

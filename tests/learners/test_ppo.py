"""Credit and update programs against plain re-implementations, and one device against eight."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from learners.padded import token_values
from models.tiny import CONFIG, policy, policy_params, scorer, scorer_params

from stepjax.config import PPOOptions, StreamOptions
from stepjax.errors import UserError
from stepjax.learners.optimizers import abstract_state, init_state
from stepjax.learners.ppo import credit_program, make_streams
from stepjax.learners.score import response_logprobs
from stepjax.learners.update import update_program
from stepjax.parallel import batch_sharding, fetch, make_mesh, put, replicated
from stepjax.programs import abstract
from stepjax.rewards.signals import SIGNALS
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


@functools.cache
def mesh(shape: tuple[int, int, int]):
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
        own, entropy = response_logprobs(policy().bind(policy_params()), rows, temperature=OPTIONS.temperature)
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
def credit_of(without_critic: bool, shape: tuple[int, int, int] = (1, 1, 1)):
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


def numpy_gae(rewards, values, bootstrap, end, length, gamma, lam, discount):
    """One row of one stream: advantages by the recursion, from the last token back."""
    advantages, value_after, advantage_after = np.zeros(T), bootstrap, 0.0
    for t in reversed(range(P, P + length)):
        c = gamma * (discount if end[t] and t != P + length - 1 else 1.0)
        advantage_after = rewards[t] + c * value_after - values[t] + c * lam * advantage_after
        advantages[t], value_after = advantage_after, values[t]
    return advantages


def test_credit_is_what_its_equations_say():
    rows, (_, found, metrics) = scored(), credit_of(False)
    mask, weight = np.asarray(rows.mask), np.zeros((B, T))
    for i, (name, o) in enumerate(STREAMS.items()):
        rewards = np.asarray(SIGNALS[o.signal].rewards(jax.tree.map(jnp.asarray, rows), HOST, o), np.float64)
        values, bootstrap = (x[:, i] * o.critic for x in (rows.values, rows.bootstrap))
        discount = {"step": 0.0, "response": 1.0, "0.5": 0.5}[o.horizon]
        columns = zip(rewards, values, bootstrap, rows.steps.end, rows.response_length, strict=True)
        advantages = np.stack([numpy_gae(*row, o.gamma, o.lam, discount) for row in columns])
        returns = np.where(mask, advantages + values, 0.0)
        if o.critic:
            explained = 1 - (returns - values)[mask].var() / returns[mask].var()
            np.testing.assert_allclose(metrics[f"explained_variance/{name}"], explained, rtol=1e-4)
        if o.whiten:
            advantages = np.where(mask, (advantages - advantages[mask].mean()) / advantages[mask].std(), 0.0)
        np.testing.assert_allclose(found.rewards[:, i], rewards, atol=1e-5)
        np.testing.assert_allclose(found.advantages[:, i], advantages, atol=1e-4)
        np.testing.assert_allclose(found.returns[:, i], returns, atol=1e-4)
        np.testing.assert_allclose(metrics[f"reward/{name}"], rewards.sum(1).mean(), rtol=1e-4)
        np.testing.assert_allclose(metrics[f"advantage_std/{name}"], advantages[mask].std(), rtol=1e-4)
        weight += o.weight * advantages
    np.testing.assert_allclose(found.policy_weight, weight, atol=1e-4)


def test_a_scored_batch_is_described():
    rows, (_, _, metrics) = scored(), credit_of(False)
    mask, end = np.asarray(rows.mask), rows.steps.end
    x = (rows.ref_logprobs - rows.old_logprobs)[mask].astype(np.float64)
    gap = np.abs(rows.logprobs - rows.old_logprobs)[mask]
    wanted = {
        "kl/reference": (np.exp(x) - 1 - x).mean(),
        "entropy": rows.entropy[mask].mean(),
        "length/tokens": 46 / 8,
        "length/steps": end.sum() / 8,
        "length/truncated": 0.5,
        "mismatch/mean": gap.mean(),
        "mismatch/max": gap.max(),
        **{f"prm/{name}": (rows.prm[end].argmax(-1) == i).mean() for i, name in enumerate(("bad", "neutral", "good"))},
    }
    for name, value in wanted.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, err_msg=name)
    kinds = ("reward", "advantage_mean", "advantage_std", "return_mean", "return_std")
    others = {f"{kind}/{name}" for kind in kinds for name in STREAMS}
    others |= {f"explained_variance/{s}" for s in ("process", "outcome")}
    others |= {f"advantage_corr/{pair}" for pair in ("process:outcome", "process:kl", "outcome:kl")}
    assert metrics.keys() - wanted.keys() == others


def test_streams_are_described():
    _, found, metrics = credit_of(False)
    mask = np.asarray(scored().mask)
    advantages, returns = (x.swapaxes(0, 1)[:, mask].astype(np.float64) for x in (found.advantages, found.returns))
    for i, a in enumerate(STREAMS):
        for kind, x in (("advantage", advantages[i]), ("return", returns[i])):
            np.testing.assert_allclose(metrics[f"{kind}_mean/{a}"], x.mean(), rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(metrics[f"{kind}_std/{a}"], x.std(), rtol=1e-4)
        for j, b in list(enumerate(STREAMS))[i + 1 :]:
            np.testing.assert_allclose(
                metrics[f"advantage_corr/{a}:{b}"], np.corrcoef(advantages[i], advantages[j])[0, 1], rtol=1e-4
            )


def test_estimators_of_a_run():
    """What the options become; each estimator itself is tested in the credit room."""
    kinds = ("return", "value", "progress", "group", "rloo")
    streams = {e: StreamOptions(signal="prm", estimator=e, whiten=False, good=2.0) for e in kinds}
    streams["progress"] = dataclasses.replace(streams["progress"], first=0.25)
    streams["outcomes"] = StreamOptions(signal="outcome", estimator="rloo", whiten=False, horizon="response")
    rows = dataclasses.replace(scored(), values=None, bootstrap=None)
    found = credit(dataclasses.replace(OPTIONS, samples=2, streams=streams), rows)
    assert not found.values.any()
    end, mask = rows.steps.end, np.asarray(rows.mask)
    advantages = dict(zip(streams, found.advantages.swapaxes(0, 1), strict=True))
    np.testing.assert_array_equal(advantages["return"], advantages["value"])  # within a step, without a discount
    rated = end & (rows.finished[:, None] | (np.arange(T) != P + rows.response_length[:, None] - 1))
    worth = rows.prm @ np.array([-1.0, 0.0, 2.0])
    for b in range(B):
        ends = np.flatnonzero(end[b])
        made = advantages["progress"][b, ends].sum()
        scores = worth[b, rated[b]]
        last = (2.0 if b < 4 else -1.0) if rows.finished[b] else scores[-1] if len(scores) else 0.25
        assert made == pytest.approx(last - 0.25, abs=1e-5)
        # One of each two responses is truncated and has no outcome: the other has nothing to be compared with.
        outcome = (1.0 if b < 4 else -1.0) if rows.finished[b] else 0.0
        np.testing.assert_array_equal(advantages["outcomes"][b], np.where(mask[b], outcome, 0.0))
        pair = [rows.prm[r] @ np.array([-1.0, 0.0, 2.0]) for r in (b, b ^ 1)]
        there = [rated[r] for r in (b, b ^ 1)]
        scores = np.concatenate([x[t] for x, t in zip(pair, there, strict=True)])
        others = pair[1][there[1]]
        for t in np.flatnonzero(there[0]):
            normalised = (pair[0][t] - scores.mean()) / scores.std() if len(scores) > 1 else 0.0
            assert advantages["group"][b, t] == pytest.approx(normalised, abs=1e-4)
            assert advantages["rloo"][b, t] == pytest.approx(
                pair[0][t] - (others.mean() if len(others) else 0), abs=1e-4
            )


@pytest.mark.parametrize("estimator", ["group", "rloo"])
def test_a_single_response_has_nothing_to_be_compared_with(estimator):
    options = dataclasses.replace(OPTIONS, streams={"mine": StreamOptions(estimator=estimator)})
    said = rf"^config\.ppo\.samples: must be 2 or more, not 1: the estimator '{estimator}' of the stream 'mine'"
    with pytest.raises(UserError, match=said):
        credit(options, scored())


@pytest.mark.parametrize("shape", MESHES[1:])
def test_credit_on_eight_devices_is_that_of_one(shape):
    for wanted, found in zip(credit_of(False)[1:], credit_of(False, shape)[1:], strict=True):
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), found, wanted)


def test_a_stream_of_weight_zero_changes_nothing():
    rows = scored()
    extra = dataclasses.replace(STREAMS["outcome"], weight=0.0, good=100.0, whiten=True)
    wide = dataclasses.replace(
        rows,
        values=np.concatenate([rows.values, 9 * rows.values[:, :1]], axis=1),
        bootstrap=np.concatenate([rows.bootstrap, 9 * rows.bootstrap[:, :1]], axis=1),
    )
    found = credit(dataclasses.replace(OPTIONS, streams={**STREAMS, "extra": extra}), wide)
    wanted = credit_of(False)[1]
    assert np.abs(found.advantages[:, 3]).max() > 0.1
    np.testing.assert_allclose(found.policy_weight, wanted.policy_weight, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.returns[:, :3], wanted.returns, rtol=1e-6, atol=1e-6)


def test_truncated_responses_are_bootstrapped_and_finished_ones_are_not():
    """Without rewards, and with γ = λ = 1 over the whole response, an advantage is the last value minus the token's."""
    rows = dataclasses.replace(scored(), ref_logprobs=scored().old_logprobs)
    after = fetch(
        jax.jit(lambda r: scorer().bind(scorer_params())(r.tokens, r.positions, r.segments))(rows)
    )  # [B, T, 3], having read token t
    stream = StreamOptions(signal="kl", horizon="response", lam=1.0, whiten=False)
    found = credit(dataclasses.replace(OPTIONS, streams=dict.fromkeys("abc", stream)), rows)
    for b in range(B):
        last = P + rows.response_length[b] - 1
        final = np.zeros(3) if rows.finished[b] else after[b, last]
        wanted = final[:, None] - rows.values[b, :, P : last + 1]
        np.testing.assert_allclose(found.advantages[b, :, P : last + 1], wanted, atol=1e-5)
    assert np.abs(after[0, T - 1]).min() > 0.01


def test_values_are_those_before_the_token():
    rows = scored()
    critic = scorer().bind(scorer_params())
    after, (values, _) = fetch(
        jax.jit(lambda r: (critic(r.tokens, r.positions, r.segments), token_values(critic, r)))(rows)
    )
    wanted = np.where(np.asarray(rows.mask)[:, None], np.roll(after, 1, axis=1).swapaxes(1, 2), 0.0)
    np.testing.assert_allclose(values, wanted, atol=1e-6)


@functools.cache
def update_of(without_critic: bool, shape: tuple[int, int, int]):
    options, critic = (WITHOUT_CRITIC, None) if without_critic else (OPTIONS, scorer())
    abstract_rows = credit_of(without_critic, shape)[0]
    return update_program(options, policy(), critic, OPTIMIZERS, mesh(shape), abstract_rows)


def update(rows: Trajectory, shape=(1, 1, 1), without_critic=False, iteration=3, critic_params=None):
    """(parameters by role, metrics) after a round of two passes over two minibatches."""
    program, on = update_of(without_critic, shape), mesh(shape)
    given = {"policy": policy_params()}
    definitions = {"policy": policy(), "critic": scorer()}
    if not without_critic:
        given["critic"] = scorer_params() if critic_params is None else critic_params
    state = {}
    for role, params in given.items():
        placed = jax.device_put(params, definitions[role].shardings(on))
        like = abstract_state(definitions[role], OPTIMIZERS[role], on)
        state[role] = init_state(placed, OPTIMIZERS[role], like, on)
    whole = replicated(on)
    key = jax.device_put(jax.random.key(5), whole)
    new, metrics = program(state, put(rows, batch_sharding(on)), key, put(np.int32(iteration), whole))
    return fetch({role: new[role]["params"] for role in new}), fetch(metrics)


def policy_objective(params, rows: Trajectory):
    """What the policy minimises, token by token as in the papers."""
    o = OPTIONS
    model = policy().bind(params)
    logits = model.logits(model.trunk(rows.tokens, rows.positions, rows.segments)) / o.temperature
    every = jax.nn.log_softmax(logits)[:, :-1]
    logprobs = jnp.pad(jnp.take_along_axis(every, rows.tokens[:, 1:, None], -1)[..., 0], ((0, 0), (1, 0)))
    entropy = jnp.pad(-(jnp.exp(every) * every).sum(-1), ((0, 0), (1, 0)))
    ratio, w, mask = jnp.exp(logprobs - rows.old_logprobs), rows.policy_weight, rows.mask
    gain = jnp.minimum(ratio * w, jnp.clip(ratio, 1 - o.clip_low, 1 + o.clip_high) * w)
    gain = jnp.where(w < 0, jnp.maximum(gain, o.dual_clip * w), gain)
    to_reference, to_old = rows.ref_logprobs - logprobs, logprobs - rows.old_logprobs
    loss = -gain + o.kl * (jnp.exp(to_reference) - 1 - to_reference) - o.entropy * entropy
    low, high = ratio < 1 - o.clip_low, ratio > 1 + o.clip_high

    def mean(x):
        return jnp.where(mask, x, 0.0).sum() / mask.sum()

    return mean(loss), {
        "policy/loss": mean(-gain),
        "policy/clip_fraction": mean(jnp.where(w < 0, low | (ratio > o.dual_clip), (w > 0) & high)),
        "policy/ratio_max": jnp.where(mask, ratio, 0.0).max(),
        "kl/update": mean(jnp.exp(to_old) - 1 - to_old),
    }


def critic_objective(params, rows: Trajectory):
    after = scorer().bind(params)(rows.tokens, rows.positions, rows.segments)
    metrics = {}
    for i, name in enumerate(("process", "outcome")):  # the third stream has no critic
        values = jnp.pad(after[:, :-1, i], ((0, 0), (1, 0)))
        old, returns = rows.values[:, i], rows.returns[:, i]
        bounded = old + jnp.clip(values - old, -OPTIONS.value_clip, OPTIONS.value_clip)
        losses = 0.5 * jnp.maximum((values - returns) ** 2, (bounded - returns) ** 2)
        metrics[f"value_loss/{name}"] = jnp.where(rows.mask, losses, 0.0).sum() / rows.mask.sum()
    return sum(metrics.values()), metrics


@jax.jit
def descend(params, batch: Trajectory):
    """One step of gradient descent on the two objectives."""
    new, line = {}, {}
    for role, objective in (("policy", policy_objective), ("critic", critic_objective)):
        (_, found), gradient = jax.value_and_grad(objective, has_aux=True)(params[role], batch)
        new[role] = jax.tree.map(lambda p, g: p - RATE * g, params[role], gradient)
        line |= {**found, f"grad_norm/{role}": optax.global_norm(gradient)}
    return new, line


@jax.jit
def orders(iteration):
    """The random order of each pass."""
    keys = jax.random.split(jax.random.fold_in(jax.random.key(5), iteration), OPTIONS.epochs)
    return [jax.random.permutation(key, B) for key in keys]


def by_hand(rows: Trajectory, iteration: int = 3):
    """The same round as a loop over minibatches."""
    params = {"policy": policy_params(), "critic": scorer_params()}
    lines = []
    for order in fetch(orders(iteration)):
        for chosen in order.reshape(OPTIONS.minibatches, -1):
            params, line = descend(params, jax.tree.map(lambda x, chosen=chosen: x[chosen], rows))
            lines.append(fetch(line))
    figures = {k: [line[k] for line in lines] for k in lines[0]}
    return fetch(params), {k: np.max(v) if k.endswith("_max") else np.mean(v) for k, v in figures.items()}


def assert_close(found, wanted, atol=1e-5):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for (path, a), b in zip(jax.tree.leaves_with_path(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=atol, err_msg=jax.tree_util.keystr(path))


def distance(a, b) -> float:
    return max(float(np.abs(x - y).max()) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_an_update_is_what_its_equations_say():
    rows = credit_of(False)[1]
    (params, metrics), (wanted, wanted_metrics) = update(rows), by_hand(rows)
    assert_close(params, wanted)
    assert_close(metrics, wanted_metrics)
    assert 0.05 < metrics["policy/clip_fraction"] < 0.95, "both sides of the clip are met"
    for role, before in (("policy", policy_params()), ("critic", scorer_params())):
        assert distance(params[role], before) > 1e-2, role


@pytest.mark.parametrize("shape", MESHES[1:])
def test_an_update_on_eight_devices_is_that_of_one(shape):
    rows = credit_of(False)[1]
    assert_close(update(rows, shape), update(rows))


def test_a_head_without_a_critic_is_not_trained():
    params, metrics = update(credit_of(False)[1])
    before, after = scorer_params()["head"], params["critic"]["head"]
    np.testing.assert_array_equal(after[:, 2], before[:, 2])
    assert (np.abs(after[:, :2] - before[:, :2]).max(0) > 1e-3).all()
    assert "value_loss/kl" not in metrics


def test_minibatches_are_drawn_anew_each_iteration_and_only_then():
    rows = credit_of(False)[1]
    first, again, other = (update(rows, iteration=i)[0] for i in (3, 3, 4))
    assert distance(first, again) == 0.0
    assert distance(first, other) > 1e-4


def test_prompts_and_padding_are_not_learned():
    """What a column holds outside of the responses, but for the tokens of prompts, reaches nothing."""
    rows = credit_of(False)[1]
    outside = ~np.asarray(rows.mask)
    padding = np.asarray(rows.segments) == 0
    junk = dataclasses.replace(
        rows,
        tokens=np.where(padding, 7, rows.tokens),
        policy_weight=np.where(outside, 1e3, rows.policy_weight),
        old_logprobs=np.where(outside, -50.0, rows.old_logprobs).astype(np.float32),
        returns=np.where(outside[:, None], np.nan, rows.returns),
    )
    assert_close(update(junk), update(rows), atol=1e-6)


def test_without_any_critic_the_policy_learns_as_with_one():
    """Values are 0; the policy's update knows the critic only by the weights that it is given."""
    _, rows, described = credit_of(True)
    assert not rows.values.any() and not rows.bootstrap.any()
    assert not [name for name in described if name.startswith("explained_variance")]
    params, metrics = update(rows, without_critic=True)
    assert params.keys() == {"policy"} and not [name for name in metrics if "value" in name or "critic" in name]
    beside = dataclasses.replace(credit_of(False)[1], policy_weight=rows.policy_weight)
    assert_close(params["policy"], update(beside)[0]["policy"], atol=1e-5)
    assert distance(params, {"policy": update(credit_of(False)[1])[0]["policy"]}) > 1e-3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"horizon": "steps"}, "horizon 'steps': must be"),
        ({"horizon": "1.5"}, r"horizon 1\.5: must be"),
        ({"horizon": "nan"}, "horizon nan: must be"),
        ({"gamma": 1.5}, r"gamma 1\.5"),
        ({"lam": -0.1}, r"lam -0\.1"),
        ({"weight": float("inf")}, "weight inf"),
        ({"estimator": "progress", "horizon": "response"}, "estimator 'progress' credits .* horizon must be"),
        ({"estimator": "gea"}, "estimator 'gea': must be one of gae, return"),
        ({"first": 0.5}, "first: only estimator progress reads it, not gae"),
    ],
)
def test_streams_that_cannot_be_are_user_errors(changes, said):
    with pytest.raises(UserError, match=rf"^config\.ppo\.streams\.mine[.:].*{said}"):
        make_streams({"process": StreamOptions(), "mine": StreamOptions(**changes)})


def test_horizons_are_words_or_numbers():
    streams = make_streams({h: StreamOptions(horizon=h) for h in ("step", "turn", "response", "0.25", "1e-1", "1")})
    assert [s.horizon for s in streams] == ["step", "turn", "response", 0.25, 0.1, 1.0]


def test_an_adapted_weight_takes_the_place_of_the_streams_own():
    streams = dict(OPTIONS.streams, kl=dataclasses.replace(OPTIONS.streams["kl"], kl_target=0.1))
    options, by_row = dataclasses.replace(OPTIONS, streams=streams), batch_sharding(mesh(MESHES[0]))
    rows = scored()
    program = credit_program(options, mesh(MESHES[0]), abstract(put(rows, by_row)))
    given = put(HOST, by_row) | put({"weight/kl": np.float32(2.5)}, replicated(mesh(MESHES[0])))
    found, metrics = fetch(program(put(rows, by_row), given))
    by_hand = dict(streams, kl=dataclasses.replace(streams["kl"], kl_target=0.0, weight=2.5))
    expected = credit(dataclasses.replace(OPTIONS, streams=by_hand), rows)
    np.testing.assert_array_equal(found.policy_weight, expected.policy_weight)
    assert np.abs(expected.policy_weight - credit(OPTIONS, rows).policy_weight).max() > 0.1
    assert metrics["weight/kl"] == 2.5


def test_only_gae_has_a_critic():
    streams = make_streams({e: StreamOptions(estimator=e) for e in ("gae", "return", "value", "group", "rloo")})
    assert [s.critic for s in streams] == [True, False, False, False, False]


def test_minibatches_must_divide_a_round():
    options = dataclasses.replace(OPTIONS, minibatches=3)
    with pytest.raises(UserError, match=r"config\.ppo\.minibatches: 3 does not divide the 8 responses"):
        update_program(options, policy(), None, OPTIMIZERS, mesh(MESHES[0]), credit_of(False)[0])

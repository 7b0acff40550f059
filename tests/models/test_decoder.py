"""The decoder against a plain NumPy loop, and its three ways of running against each other."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models.tiny import CONFIG, policy, policy_params, reader, reader_params, scorer, scorer_params

from stepjax.models import Definition, LanguageModel
from stepjax.parallel import make_mesh


def numpy_logits(params, tokens):
    """One row, one head, one position at a time, in float64."""
    c = CONFIG
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)

    def norm(x, scale):
        return x / np.sqrt(np.mean(x * x) + c.norm_eps) * scale

    def rope(x, position):
        half = len(x) // 2
        angle = position * c.rope_theta ** (-np.arange(half) / half)
        a, b = x[:half], x[half:]
        return np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)])

    xs = [p["trunk"]["embedding"][t] for t in tokens]
    for layer in range(c.layers):
        w = {k: v[layer] for k, v in p["trunk"]["layers"].items()}
        hs = [norm(x, w["attention_norm"]) for x in xs]
        out = []
        for t, x in enumerate(xs):
            total = np.zeros(c.width)
            for head in range(c.heads):
                kv = head // (c.heads // c.kv_heads)
                q = rope(norm(hs[t] @ w["query"][:, head] + w["query_bias"][head], w["query_norm"]), t)
                scores, values = [], []
                for s in range(t + 1):
                    k = rope(norm(hs[s] @ w["key"][:, kv] + w["key_bias"][kv], w["key_norm"]), s)
                    scores.append(q @ k / np.sqrt(c.head_dim))
                    values.append(hs[s] @ w["value"][:, kv] + w["value_bias"][kv])
                weights = np.exp(np.array(scores) - max(scores))
                total += (weights / weights.sum()) @ np.array(values) @ w["output"][head]
            x = x + total
            h = norm(x, w["mlp_norm"])
            gate = h @ w["gate"]
            out.append(x + (gate / (1 + np.exp(-gate)) * (h @ w["up"])) @ w["down"])
        xs = out
    return np.stack([norm(x, p["trunk"]["norm"]) @ p["unembedding"] for x in xs])


@jax.jit
def full(params, tokens):
    return policy().bind(params)(tokens)


@jax.jit
def hidden(params, tokens, positions, segments):
    return policy().bind(params).trunk(tokens, positions, segments)


TOKENS = np.random.default_rng(0).integers(0, CONFIG.vocab, (3, 10)).astype(np.int32)
TARGETS = np.roll(TOKENS, -1, axis=1)


def value_and_gradients(function):
    """Of Σ log-prob and, so that the entropy's gradient counts, half of Σ entropy; by (hidden states, unembedding)."""

    def total(leaves, *args):
        chosen, entropy = function(*leaves, *args)
        return chosen.sum() + 0.5 * entropy.sum(), (chosen, entropy)

    return jax.value_and_grad(total, has_aux=True)


@jax.jit
@value_and_gradients
def logprobs_by_hand(hiddens, table, temperature):
    logprobs = jax.nn.log_softmax(hiddens @ table / temperature)
    chosen = jnp.take_along_axis(logprobs, TARGETS[..., None], -1)[..., 0]
    return chosen, -(jnp.exp(logprobs) * logprobs).sum(-1)


@functools.partial(jax.jit, static_argnums=2)
def chunked_logprobs(leaves, temperature, chunk):
    @value_and_gradients
    def compute(hiddens, table):
        model = policy().bind({**policy_params(), "unembedding": table})
        return model.token_logprobs(hiddens, TARGETS, temperature=temperature, chunk=chunk)

    return compute(leaves)


def test_logits_agree_with_a_plain_loop():
    found = np.asarray(full(policy_params(), TOKENS))
    for row in range(len(TOKENS)):
        np.testing.assert_allclose(found[row], numpy_logits(policy_params(), TOKENS[row]), rtol=2e-4, atol=2e-4)


def test_cached_decoding_agrees_with_the_full_pass_for_left_padded_prompts():
    lengths, width, new = np.array([4, 2, 3]), 4, 5

    @jax.jit
    def cached(params, tokens, positions, segments):
        model = policy().bind(params)
        cache = model.trunk.empty_cache(3, width + new)
        parts = []
        for at in (slice(0, width), *(slice(t, t + 1) for t in range(width, width + new))):
            h, cache = model.trunk.extend(tokens[:, at], positions[:, at], segments[:, at], cache, fresh=at.start == 0)
            parts.append(model.logits(h))
        return jnp.concatenate(parts, axis=1)

    columns = np.arange(width + new)[None]
    positions = np.maximum(columns - (width - lengths[:, None]), 0).astype(np.int32)
    segments = (columns >= width - lengths[:, None]).astype(np.int32)
    tokens = np.zeros((3, width + new), np.int32)
    for i, n in enumerate(lengths):
        tokens[i, width - n :] = TOKENS[i, : n + new]
    found = np.asarray(cached(policy_params(), tokens, positions, segments))
    whole = np.asarray(full(policy_params(), TOKENS))
    for i, n in enumerate(lengths):
        np.testing.assert_allclose(found[i, width - n :], whole[i, : n + new], rtol=1e-4, atol=1e-4)


def test_packed_segments_do_not_see_each_other_or_the_padding():
    lengths = [4, 3, 2]
    tokens, positions, segments = (np.zeros((3, 10), np.int32) for _ in range(3))
    at = 0
    for i, n in enumerate(lengths):
        tokens[0, at : at + n], positions[0, at : at + n] = TOKENS[i, :n], np.arange(n)
        segments[0, at : at + n] = i + 1
        at += n
    packed = hidden(policy_params(), tokens, positions, segments)
    row_positions = np.broadcast_to(np.arange(10, dtype=np.int32), (3, 10))
    alone = hidden(policy_params(), TOKENS, row_positions, np.ones((3, 10), np.int32))
    at = 0
    for i, n in enumerate(lengths):
        np.testing.assert_allclose(packed[0, at : at + n], alone[i, :n], rtol=1e-4, atol=1e-4)
        at += n
    assert np.isfinite(packed).all()  # padding sees nothing, and must still be finite


@pytest.mark.parametrize("chunk", [3, 128])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_token_logprobs_and_their_gradient_do_not_depend_on_the_chunk(chunk, temperature):
    hiddens = np.random.default_rng(1).normal(size=(3, 10, CONFIG.width)).astype(np.float32)
    leaves = (hiddens, policy_params()["unembedding"])
    (_, wanted), wanted_gradient = logprobs_by_hand(leaves, temperature)
    (_, found), gradient = chunked_logprobs(leaves, temperature, chunk)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    for a, b in zip(gradient, wanted_gradient, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
        assert np.abs(b).max() > 1e-2


def test_sharded_equals_one_device():
    wanted = np.asarray(full(policy_params(), TOKENS))
    mesh = make_mesh(1, 4, 2)
    params = jax.device_put(policy_params(), policy().shardings(mesh))
    assert "tensor" in str(params["trunk"]["layers"]["gate"].sharding.spec)
    tokens = np.concatenate([TOKENS, TOKENS, TOKENS[:2]])  # eight rows over four devices
    with jax.set_mesh(mesh):
        found = jax.jit(lambda p, t: policy().bind(p)(t))(params, tokens)
    np.testing.assert_allclose(np.asarray(found)[:3], wanted, rtol=1e-4, atol=1e-4)


def test_fresh_heads_say_nothing_and_moved_ones_read_the_token_itself():
    positions = np.broadcast_to(np.arange(10, dtype=np.int32), (3, 10))
    fresh = jax.jit(scorer().init)(jax.random.key(0, impl="rbg"))  # compiles faster than the default generator
    score = jax.jit(lambda p, t: scorer().bind(p)(t, positions, np.ones_like(TOKENS)))
    assert not np.asarray(score(fresh, TOKENS)).any()
    changed = TOKENS.copy()
    changed[:, 6] = (changed[:, 6] + 1) % CONFIG.vocab
    before, after = (np.asarray(score(scorer_params(), t)) for t in (TOKENS, changed))
    np.testing.assert_array_equal(before[:, :6], after[:, :6])
    assert (np.abs(before[:, 6] - after[:, 6]) > 1e-6).all()


def test_a_step_reader_sees_how_likely_its_own_language_model_finds_each_token():
    @jax.jit
    def read(params, tokens):
        positions = jnp.broadcast_to(jnp.arange(10, dtype=jnp.int32), tokens.shape)
        model = reader().bind(params)
        return *model.scores_and_logprobs(tokens, positions, jnp.ones_like(tokens)), model.language(tokens)

    scores, logprobs, logits = (np.asarray(x) for x in read(reader_params(), TOKENS))
    every = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    wanted = np.take_along_axis(every[:, :-1], TOKENS[:, 1:, None], -1)[..., 0]
    np.testing.assert_allclose(logprobs, np.pad(wanted, ((0, 0), (1, 0))), atol=1e-4)
    changed = TOKENS.copy()
    changed[:, 6] = (changed[:, 6] + 1) % CONFIG.vocab
    np.testing.assert_array_equal(read(reader_params(), changed)[0][:, :6], scores[:, :6])
    blind = {**reader_params(), "likelihood": np.zeros((2, CONFIG.width), np.float32)}
    assert (np.abs(read(blind, TOKENS)[0] - scores).max((1, 2)) > 1e-3).all(), "the log-probability is read"


def test_definition_round_trip_and_bfloat16():
    params = policy_params()
    assert jax.tree.structure(params) == jax.tree.structure(policy().shapes)
    half = dataclasses.replace(CONFIG, dtype=jnp.bfloat16, remat=True)
    definition = Definition(lambda rngs: LanguageModel(half, rngs))
    found = jax.jit(lambda p, t: definition.bind(p)(t))(params, TOKENS)
    wanted = np.asarray(full(params, TOKENS))
    assert found.dtype == jnp.float32
    assert 1e-4 < np.abs(np.asarray(found) - wanted).max() < 0.15

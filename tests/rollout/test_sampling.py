"""The sampler's filters: transformers' own, a plain loop, invariants, and frequencies of what is drawn."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from stepjax.parallel import make_mesh, named_sharding
from stepjax.rollout.sampling import Sampler

VOCAB = 24
FILTERS = [
    {},
    {"temperature": 0.7},
    {"top_k": 5},
    {"top_k": 1},
    {"top_k": 100},
    {"top_p": 0.8},
    {"top_p": 0.05},
    {"min_p": 0.2},
    {"temperature": 1.6, "top_k": 9, "top_p": 0.7, "min_p": 0.3},
    {"temperature": 0.4, "top_p": 0.95, "min_p": 0.01},
]


@functools.cache
def scores_of(sampler: Sampler):
    return jax.jit(sampler.scores)


def kept(row: np.ndarray, sampler: Sampler) -> set[int]:
    """The tokens that stay, one at a time."""
    scores = row.astype(np.float64) / sampler.temperature
    stays = set(range(len(row)))
    if sampler.top_k:
        stays = {i for i in stays if sum(scores[j] > scores[i] for j in stays) < sampler.top_k}
    if sampler.top_p < 1:
        total = sum(np.exp(scores[i]) for i in stays)
        ahead = {i: sum(np.exp(scores[j]) for j in stays if scores[j] > scores[i]) / total for i in stays}
        stays = {i for i in stays if ahead[i] < sampler.top_p}
    best = max(scores[i] for i in stays)
    return {i for i in stays if np.exp(scores[i] - best) >= sampler.min_p}


@pytest.mark.parametrize("options", FILTERS, ids=str)
def test_the_filters_are_those_of_transformers(options):
    torch = pytest.importorskip("torch")
    warpers = pytest.importorskip("transformers.generation.logits_process")
    sampler = Sampler(**options)
    logits = np.random.default_rng(0).normal(0, 2, (40, VOCAB)).astype(np.float32)
    wanted = torch.tensor(logits)
    for name, warper in (
        ("temperature", warpers.TemperatureLogitsWarper),
        ("top_k", warpers.TopKLogitsWarper),
        ("top_p", warpers.TopPLogitsWarper),
        ("min_p", warpers.MinPLogitsWarper),
    ):
        if name in options:
            wanted = warper(options[name])(None, wanted)
    np.testing.assert_allclose(scores_of(sampler)(logits), wanted.numpy(), rtol=1e-6)


@hypothesis.settings(deadline=None, max_examples=150)
@hypothesis.given(
    row=st.lists(st.sampled_from([*np.linspace(-4, 4, 33), -0.0]), min_size=VOCAB, max_size=VOCAB),
    options=st.sampled_from(FILTERS[1:]),
)
def test_what_is_kept_is_what_a_plain_loop_keeps_ties_included(row, options):
    sampler = Sampler(**options)
    row = np.asarray(row, np.float32)
    scores = np.asarray(scores_of(sampler)(row[None])[0])
    found = set(np.flatnonzero(np.isfinite(scores)).tolist())
    assert int(row.argmax()) in found
    assert all((i in found) == (j in found) for i in range(VOCAB) for j in range(VOCAB) if row[i] == row[j])
    np.testing.assert_allclose(scores[sorted(found)], row[sorted(found)] / sampler.temperature, rtol=1e-6)
    # A mass may be p to the last bit: then float32 and float64 may differ by the tokens that this decides about.
    near = [kept(row, Sampler(**{**options, "top_p": p})) for p in around(sampler.top_p)]
    assert min(near, key=len) <= found <= max(near, key=len)


def around(p: float) -> tuple[float, float]:
    return (p, p) if p == 1 else (p - 1e-5, p + 1e-5)


def draw(sampler: Sampler, row, count: int, **told):
    keys = jax.random.split(jax.random.key(3), count)
    logits = jnp.broadcast_to(jnp.asarray(row, jnp.float32), (count, len(row)))
    tokens, logprobs = jax.jit(lambda k, x: sampler(k, x, **told))(keys, logits)
    return np.asarray(tokens), np.asarray(logprobs)


@pytest.mark.parametrize("options", FILTERS, ids=str)
def test_frequencies_and_log_probs_are_those_of_the_filtered_distribution(options):
    sampler, count = Sampler(**options), 20_000
    row = np.random.default_rng(4).normal(0, 1.5, VOCAB).astype(np.float32)
    tokens, logprobs = draw(sampler, row, count)
    stays = sorted(kept(row, sampler))
    wanted = np.zeros(VOCAB)
    wanted[stays] = np.exp(row[stays].astype(float) / sampler.temperature)
    wanted /= wanted.sum()
    counts = np.bincount(tokens, minlength=VOCAB)
    assert not counts[wanted == 0].any()
    np.testing.assert_allclose(logprobs, np.log(wanted[tokens]), atol=1e-5)
    often = wanted * count > 5
    chi_square = np.sum((counts - wanted * count)[often] ** 2 / (wanted * count)[often])
    degrees = max(int(often.sum()) - 1, 1)
    # Wilson and Hilferty's cube root: normal to a good approximation; beyond 4 lies one of 30,000 samples.
    assert ((chi_square / degrees) ** (1 / 3) - (1 - 2 / (9 * degrees))) / np.sqrt(2 / (9 * degrees)) < 4


def test_without_filters_tokens_and_log_probs_are_those_of_plain_sampling():
    logits = jax.random.normal(jax.random.key(1), (64, VOCAB)) * 3
    keys = jax.random.split(jax.random.key(2), 64)
    tokens, logprobs = jax.jit(Sampler(0.8))(keys, logits)
    np.testing.assert_array_equal(tokens, jax.vmap(jax.random.categorical)(keys, logits / 0.8))
    wanted = np.take_along_axis(np.asarray(jax.nn.log_softmax(logits / 0.8)), np.asarray(tokens)[:, None], 1)[:, 0]
    np.testing.assert_allclose(logprobs, wanted, atol=1e-6)
    own, filtered = (
        jax.jit(Sampler(0.8, **more)).lower(keys, logits).as_text().count("stablehlo.while")
        for more in ({}, {"top_p": 0.9})
    )
    assert own == 0 < filtered  # nothing is searched for where nothing is left out


def test_greedy_takes_the_likeliest_whatever_the_filters():
    logits = jax.random.normal(jax.random.key(1), (8, VOCAB))
    keys = jax.random.split(jax.random.key(2), 8)
    tokens, logprobs = jax.jit(Sampler(0.0, top_k=3, top_p=0.5, min_p=0.5))(keys, logits)
    np.testing.assert_array_equal(tokens, logits.argmax(-1))
    plain = np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), np.asarray(tokens)[:, None], 1)[:, 0]
    np.testing.assert_allclose(logprobs, plain, atol=1e-6)
    ties = jnp.array([[0.0, 2.0, 2.0], [1.0, 1.0, 1.0], [-jnp.inf, 0.0, -0.0], [0.0, -1.0, 3.0]])
    np.testing.assert_array_equal(Sampler(0.0)(keys[:4], ties)[0], [1, 0, 1, 2])  # the first of equals
    assert Sampler(0.0)(keys[:1], jnp.full((1, 5), jnp.nan))[0] < 5


def test_ends_are_forbidden_before_the_least_length():
    ends, row = (2, 7), np.zeros(10)
    row[[2, 7]] = 4.0
    sampler = Sampler(top_p=0.97, min_tokens=3)
    for time, allowed in ((0, False), (2, False), (3, True), (9, True)):
        tokens, logprobs = draw(sampler, row, 4000, time=jnp.full(4000, time), eos=ends)
        assert np.isin(tokens, ends).any() == allowed
        other = np.log(1 / 8) if not allowed else 4 - np.log(2 * np.exp(4) + 8)
        np.testing.assert_allclose(
            logprobs[~np.isin(tokens, ends)] if not allowed else logprobs.max(), other, atol=1e-5
        )
    with pytest.raises(ValueError, match="lengths"):
        draw(sampler, row, 4)


def test_a_divided_vocabulary_is_filtered_alike():
    sampler = Sampler(top_k=7, top_p=0.8)
    logits = jax.random.normal(jax.random.key(1), (16, VOCAB)) * 2
    mesh = make_mesh(4, 1, 2)
    placed = jax.device_put(logits, named_sharding(mesh, ("batch", "vocab"), logits.shape))
    compiled = jax.jit(sampler.scores).lower(placed).compile()
    np.testing.assert_array_equal(compiled(placed), scores_of(sampler)(logits))
    assert "all-gather" not in compiled.as_text()


@pytest.mark.parametrize("wrong", [{"top_p": 0.0}, {"top_p": 1.1}, {"min_p": -0.1}, {"top_k": -1}, {"temperature": -1}])
def test_impossible_values_are_refused(wrong):
    with pytest.raises(ValueError, match=r"lies|negative"):
        Sampler(**wrong)

"""The policy's losses of a run: figures of the papers, loops over packed rows, finite differences, refusals."""

import dataclasses
import functools
import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from learners.ppo_case import OPTIONS, credit_of, scored

from stepjax.config import PPOOptions
from stepjax.errors import UserError
from stepjax.learners.objectives import objective_columns
from stepjax.learners.packing import PackedRows
from stepjax.learners.policy_losses import LOSSES, check_loss, policy_losses, ratio_starts
from stepjax.learners.ppo import make_streams
from stepjax.learners.reduce import loss_weights
from stepjax.options import from_dict

R, L = 2, 8
quick = settings(max_examples=10, deadline=None, derandomize=True)
CASES = [(loss, ratio) for loss, row in LOSSES.items() for ratio in row.ratios]


def micro_batch(old, weight, mask, start):
    """A packed micro-batch as a loss reads it; what lies outside of the mask is NaN."""
    whole = np.zeros(mask.shape, np.int32)
    numbers = {"old_logprobs": old, "policy_weight": weight}
    columns = {name: np.where(mask, x, np.nan).astype(np.float32) for name, x in numbers.items()}
    columns["ratio_start"] = start.astype(np.float32)
    return PackedRows(whole, whole, whole, whole, mask, columns)


@functools.cache
def compiled(loss, ratio):
    options = PPOOptions(loss=loss, ratio=ratio, clip_low=0.2, clip_high=0.25)

    @jax.jit
    def run(logprobs, batch):
        columns = {name: x for name, x in batch.columns.items() if ratio != "token" or name != "ratio_start"}
        batch = dataclasses.replace(batch, columns=columns)
        return policy_losses(options, logprobs, batch)

    gradient = jax.jit(jax.grad(lambda logprobs, batch: jnp.sum(run(logprobs, batch)[0])))
    return run, gradient


def one(loss, ratio, weight=1.0):
    """Losses and figures of a response of two tokens: π_old 0.4, 0.2 and π 0.5, 0.3."""
    mask, start = np.array([[False, True, True]]), np.array([[False, True, False]])
    old, new = (np.log([[0.5, *p]]).astype(np.float32) for p in ((0.4, 0.2), (0.5, 0.3)))
    losses, aux = compiled(loss, ratio)[0](new, micro_batch(old, np.full((1, 3), weight), mask, start))
    assert losses[0, 0] == 0
    return np.asarray(losses)[0, 1:], np.asarray(aux["ratio"])[0, 1:]


def test_ratios_of_tokens_turns_and_sequences():
    np.testing.assert_allclose(one("ppo", "token")[1], [1.25, 1.5], rtol=1e-6)
    np.testing.assert_allclose(one("ppo", "sequence")[1], [1.875**0.5] * 2, rtol=1e-6)  # GSPO: 1.369
    np.testing.assert_allclose(one("ppo", "turn")[1], [1.875] * 2, rtol=1e-6)


SAPO = [-4 / (1 + np.exp(-0.25)), -4 / (1 + np.exp(-0.5))]
"""−4σ(τ(ρ − 1))/τ with τ = 1, ρ = 1.25 and 1.5."""


def test_figures_of_the_papers():
    np.testing.assert_allclose(SAPO, [-2.249, -2.490], atol=5e-4)
    np.testing.assert_allclose(one("sapo", "token")[0], SAPO, rtol=1e-6)
    weighed = [-1.25 * np.log(0.5), -1.25 * np.log(0.3)]  # CISPO: 1 + ε = 1.25
    np.testing.assert_allclose(one("cispo", "token")[0], weighed, rtol=1e-6)
    np.testing.assert_allclose(one("dppo", "token")[0], [-1.25 * np.log(0.5), -1.5 * np.log(0.3)], rtol=1e-6)
    np.testing.assert_allclose(one("ppo", "sequence")[0], [-1.25] * 2, rtol=1e-6)
    np.testing.assert_allclose(one("ppo", "sequence", -1.0)[0], [1.875**0.5] * 2, rtol=1e-6)


@pytest.mark.parametrize(("rule", "expected"), [
    ("gspo", [-1.0004, -1.0004]),
    ("cispo", [-1.25 * np.log(0.5), -1.5 * np.log(0.3)]),
    ("sapo", SAPO),
    ("dppo", [-1.25 * np.log(0.5), -1.5 * np.log(0.3)]),
    ("turn_ppo", [-1.2, -1.2]),
    ("dapo", [-1.25, -1.28]),
])  # fmt: skip
def test_the_losses_of_published_rules(rule, expected):
    """As their configs have them: the ratio, the bounds, the kind of loss."""
    file = Path(__file__).parents[2] / "configs" / "rules" / f"{rule}.py"
    options = from_dict(runpy.run_path(str(file))["get_config"]()).ppo
    check_loss(options)
    mask, start = np.array([[True, True]]), np.array([[True, False]])
    old, new = (np.log([p]).astype(np.float32) for p in ((0.4, 0.2), (0.5, 0.3)))
    batch = micro_batch(old, np.ones((1, 2)), mask, start)
    if options.ratio == "token":
        del batch.columns["ratio_start"]
    np.testing.assert_allclose(policy_losses(options, jnp.asarray(new), batch)[0][0], expected, rtol=1e-6)


def test_dppo_leaves_out_probabilities_that_moved_far():
    """By the change of π, not by the ratio: 0.001 may grow tenfold, 0.5 may not grow by 0.3."""
    old, new = (np.log([p]).astype(np.float32) for p in ((0.001, 0.5, 0.5, 0.5), (0.01, 0.8, 0.2, 0.8)))
    weight, mask = np.array([[1.0, 1.0, -1.0, -1.0]]), np.ones((1, 4), bool)
    batch = micro_batch(old, weight, mask, mask)
    losses, aux = compiled("dppo", "token")[0](new, batch)
    assert aux["clipped"].tolist() == [[False, True, True, False]]
    np.testing.assert_allclose(losses[0], [-10 * np.log(0.01), 0, 0, 1.6 * np.log(0.8)], rtol=1e-6)


def by_hand(loss, new, old, pooled, a):
    """Loss of a token, and d loss / d logπ of it through its own ratio or logπ (the pooled one apart)."""
    rho = np.exp(pooled)
    if loss == "ppo":
        return max(-a * rho, -a * np.clip(rho, 0.8, 1.25))
    if loss == "reinforce":
        return -a * new
    if loss == "cispo":
        return -np.clip(rho, 0.8, 1.25) * a * new
    if loss == "sapo":
        tau = 1.0 if a > 0 else 1.05
        return -a * 4 / (1 + np.exp(-tau * (rho - 1))) / tau
    moved = np.exp(new) - np.exp(old)
    return 0.0 if (a > 0 and moved > 0.25) or (a < 0 and moved < -0.2) else -a * min(rho, 20.0) * new


logs = hnp.arrays(np.float32, (R, L), elements=st.sampled_from(np.log([0.05, 0.2, 0.4, 0.5, 0.9]).tolist()))
reals = hnp.arrays(np.float32, (R, L), elements=st.floats(-2, 2, width=16))
bools = hnp.arrays(np.bool_, (R, L))


@pytest.mark.parametrize(("loss", "ratio"), CASES)
@quick
@given(logs, logs, reals, bools, bools)
def test_losses_equal_a_loop(loss, ratio, new, old, weight, mask, start):
    start = start & mask
    for r in range(R):
        start[r, np.flatnonzero(mask[r])[:1]] = True
    found, _ = compiled(loss, ratio)[0](new, micro_batch(old, weight, mask, start))
    expected = np.zeros((R, L))
    for r in range(R):
        units = []
        for t in np.flatnonzero(mask[r]):
            units = [*units, [t]] if start[r, t] or ratio == "token" else [*units[:-1], [*units[-1], t]]
        for unit in units:
            pooled = sum(float(new[r, t]) - float(old[r, t]) for t in unit)
            pooled /= len(unit) if ratio == "sequence" else 1
            for t in unit:
                values = (float(x[r, t]) for x in (new, old))
                expected[r, t] = by_hand(loss, *values, pooled, float(weight[r, t]))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("loss", "ratio"), CASES)
def test_gradients_equal_finite_differences(loss, ratio):
    """What the papers hold constant (sg) is held constant in the differences, too."""
    rng = np.random.default_rng(3)
    new = np.log(rng.uniform(0.1, 0.9, (R, L)))
    old = new + rng.uniform(-0.3, 0.3, (R, L))
    weight, mask = rng.normal(size=(R, L)), rng.random((R, L)) < 0.8
    start = mask & (rng.random((R, L)) < 0.4)
    for r in range(R):
        start[r, np.flatnonzero(mask[r])[:1]] = True
    batch = micro_batch(old, weight, mask, start)
    found = np.asarray(compiled(loss, ratio)[1](new.astype(np.float32), batch))
    unit = np.cumsum(start, axis=1) + L * np.arange(R)[:, None]

    def total(x):
        """Σ of the losses; for cispo and dppo the factor before logπ is that of `new`."""
        added = 0.0
        for r, t in zip(*np.nonzero(mask), strict=True):
            peers = (
                mask & (unit == unit[r, t]) if ratio != "token" else np.isin(np.arange(R * L), r * L + t).reshape(R, L)
            )
            held = new if loss in ("cispo", "dppo") else x
            pooled = (held - old)[peers].sum() / (peers.sum() if ratio == "sequence" else 1)
            if loss in ("cispo", "dppo"):
                factor = by_hand(loss, new[r, t], old[r, t], pooled, weight[r, t]) / new[r, t]
                added += factor * x[r, t]
            else:
                added += by_hand(loss, x[r, t], old[r, t], pooled, weight[r, t])
        return added

    h = 1e-5
    for at in np.ndindex(R, L):
        step = np.zeros((R, L))
        step[at] = h
        slope = (total(new + step) - total(new - step)) / (2 * h)
        np.testing.assert_allclose(found[at], slope, rtol=2e-3, atol=2e-4, err_msg=str(at))


def test_units_of_a_ratio_begin_with_each_turn_or_response():
    rows = scored()
    env = np.zeros(rows.tokens.shape, bool)
    env[0, 6:8] = True  # row 0 has 8 tokens from column 4 on
    talked = dataclasses.replace(rows, env_tokens=env)
    assert ratio_starts(OPTIONS, rows) is None
    turns, whole = (dataclasses.replace(OPTIONS, ratio=ratio) for ratio in ("turn", "sequence"))
    assert np.flatnonzero(ratio_starts(turns, talked)[0]).tolist() == [4, 8]
    assert np.flatnonzero(ratio_starts(whole, talked)[0]).tolist() == [4]
    assert np.flatnonzero(ratio_starts(turns, rows)[0]).tolist() == [4]


def test_a_fixed_count_does_not_follow_the_lengths():
    mask = np.arange(6) < np.array([[2], [6], [3]])
    weights, count = loss_weights(mask, mask, "fixed", longest=10)
    np.testing.assert_array_equal(weights, mask)
    assert count == 30 and loss_weights(mask, mask, "fixed", rows=2, longest=10)[1] == 20


def test_tokens_that_do_not_train_leave_the_mean():
    _, rows, _ = credit_of(False)
    trained = np.asarray(rows.mask) & (np.arange(12) % 2 == 0)
    rows, streams, chosen = dataclasses.replace(rows, trained=trained), make_streams(OPTIONS.streams), np.array([0, 3])
    columns = objective_columns(OPTIONS, streams, rows, chosen)
    inside = trained & np.isin(np.arange(8), chosen)[:, None]
    np.testing.assert_allclose(columns["loss_weight"], trained / inside.sum(), rtol=1e-6)
    whole = np.asarray(rows.mask) & np.isin(np.arange(8), chosen)[:, None]
    np.testing.assert_allclose(columns["token_weight"], np.asarray(rows.mask) / whole.sum(), rtol=1e-6)


@pytest.mark.parametrize(("options", "said"), [
    ({"loss": "dppo", "ratio": "sequence"}, "ratio=sequence: loss=dppo bounds each token by itself"),
    ({"loss": "reinforce", "ratio": "turn"}, "ratio=turn: loss=reinforce bounds each token by itself"),
    ({"loss": "cispo", "dual_clip": 3.0}, "dual_clip: only loss ppo or reinforce reads it, not cispo"),
    ({"loss": "sapo", "clip_high": 0.3}, "clip_high: only loss ppo or reinforce or cispo or dppo reads it, not sapo"),
    ({"sapo_rise": 2.0}, "sapo_rise: only loss sapo reads it, not ppo"),
])  # fmt: skip
def test_losses_that_contradict_themselves_are_refused(options, said):
    with pytest.raises(UserError, match=rf"^config\.ppo\.{said}"):
        check_loss(PPOOptions(**options))


def test_the_config_names_every_loss():
    field = next(f for f in dataclasses.fields(PPOOptions) if f.name == "loss")
    assert field.metadata["choices"] == tuple(LOSSES) and all(f"{name} (" in field.metadata["doc"] for name in LOSSES)

"""Streams of every kind against loops over tokens, whatever the masks, units, groups and ties; on two devices."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from credit.algebra_loop import NAMES, STREAMS, B, G, N, T, batches, credit
from hypothesis import given, settings

from stepjax.credit.states import prefix_states
from stepjax.credit.streams import Stream, combine

quick = settings(max_examples=20, deadline=None, derandomize=True)


states = jax.jit(functools.partial(prefix_states, group=2))


@jax.jit
def compiled(batch):
    return combine(STREAMS, **batch, group=G)


@quick
@given(batches())
def test_every_stream_equals_a_loop_over_tokens(batch):
    found = np.asarray(compiled(batch).advantages)
    assert found.dtype == np.float32 and not found[:, ~batch["mask"]].any()
    for name, one, expected in zip(NAMES, found, credit(batch), strict=True):
        np.testing.assert_allclose(one, expected, rtol=1e-5, atol=1e-5, err_msg=name)


@quick
@given(batches())
def test_observed_tokens_are_passed_over(batch):
    junk = dict(batch)
    for name in ("rewards", "values"):
        junk[name] = np.where(batch["mask"], batch[name], np.asarray(np.nan, batch[name].dtype))
    for name in ("step_end", "turn_end", "scored"):
        junk[name] = batch[name] | ~batch["mask"]
    junk["logprobs"] = np.where(batch["mask"], batch["logprobs"], -9.0)
    junk["state"] = np.where(batch["mask"], batch["state"], 3)
    np.testing.assert_array_equal(compiled(batch).advantages, compiled(junk).advantages)


def spread_over(mesh, batch):
    """The batch with its rows divided over the devices of the mesh."""
    by_stream = ("rewards", "values", "scored", "bootstrap", "first", "outcome")
    found = {}
    for name, x in batch.items():
        spec = jax.sharding.PartitionSpec(*[None] * (name in by_stream), "data")
        found[name] = jax.device_put(x, jax.sharding.NamedSharding(mesh, spec))
    return found


@functools.cache
def one_row_a_device():
    return jax.make_mesh((B,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:B])


@quick
@given(batches())
def test_groups_that_straddle_devices_are_credited_as_on_one(batch):
    """Every row on a device of its own, each group on two: masks, gaps, ties and dtypes of all kinds."""
    found, wanted = compiled(spread_over(one_row_a_device(), batch)), compiled(batch)
    assert G > 1 and len(found.weight.sharding.device_set) == B
    for name in ("advantages", "returns", "weight"):
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), rtol=1e-5, atol=1e-5, err_msg=name)


def test_rows_on_two_devices_give_the_same_and_ask_each_other_for_nothing():
    """Groups that lie whole on their devices are compared without a collective."""
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
    rng = np.random.default_rng(0)
    batch = {name: rng.normal(size=(N, B, T)).astype(jnp.bfloat16) for name in ("rewards", "values")}
    batch |= {name: rng.random((B, T)) < p for name, p in (("mask", 0.9), ("step_end", 0.4), ("turn_end", 0.2))}
    batch |= {"bootstrap": rng.normal(size=(N, B)).astype(jnp.bfloat16)}
    batch |= {name: rng.normal(size=(N, B)).astype(np.float32) for name in ("first", "outcome")}
    batch |= {"scored": rng.random((N, B, T)) < 0.7, "finished": rng.random(B) < 0.5, "correct": rng.random(B) < 0.5}
    batch |= {"logprobs": np.log(rng.random((B, T))).astype(np.float32)}
    batch |= {"state": rng.integers(0, G * T, (B, T)).astype(np.int32)}
    spread = spread_over(mesh, batch)
    program = compiled.lower(spread).compile()
    collectives = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
    assert not [name for name in collectives if name in program.as_text()]
    for wanted, found in zip(jax.tree.leaves(compiled(batch)), jax.tree.leaves(program(spread)), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


def test_one_walk_for_all_scores_that_are_compared_before_it():
    streams = [s for s in STREAMS if s.rule.when == "score" and not (s.join or s.times)]
    x, m = jnp.zeros((len(streams), B, T)), jnp.ones((B, T), bool)
    facts = {"finished": m[:, 0], "correct": m[:, 0], "logprobs": x[0], "state": jnp.zeros((B, T), jnp.int32)}
    text = str(jax.make_jaxpr(lambda r: combine(streams, r, r, m, m, outcome=r[..., 0], group=G, **facts))(x))
    assert text.count(" scan[") == 1


def test_a_units_own_streams_do_not_change_their_neighbours():
    """Bit for bit: what a plain stream gets beside streams with units and baselines is what it gets alone."""
    rng = np.random.default_rng(1)
    rewards, values = rng.normal(size=(2, 1, B, T)).astype(np.float32)
    mask, end = rng.random((B, T)) < 0.8, rng.random((B, T)) < 0.3
    plain = Stream("plain", "response", gamma=0.9, lam=0.8)
    unit = dataclasses.replace(plain, name="unit", unit="step", hold=True)
    alone = jax.jit(lambda r, v: combine([plain], r, v, mask, end).advantages[0])(rewards, values)
    both = jax.jit(lambda r, v: combine([plain, unit], r, v, mask, end).advantages)(
        rewards.repeat(2, 0), values.repeat(2, 0)
    )
    np.testing.assert_array_equal(both[0], alone)
    assert np.abs(both[1] - both[0]).max() > 0.1


def test_states_are_equal_where_all_tokens_before_are():
    tokens = np.array([[7, 1, 2, 3, 4], [7, 1, 2, 9, 4], [7, 1, 5, 3, 4], [7, 1, 2, 3, 0], [8, 1, 2, 3, 4], [8] * 5])
    inside = np.ones((6, 5), bool)
    inside[3, 4:] = False
    found = np.asarray(states(tokens, inside))
    assert found.shape == (6, 5) and found.min() >= 0 and found.max() < 2 * 5
    for pair in (found[:2], found[2:4], found[4:]):
        same = pair[:, None, :, None] == pair[None, :, None, :]
        assert all(same[0, 0, t, s] == (t == s) for t in range(5) for s in range(5))
    equal = [[bool(a == b) for a, b in zip(*found[i : i + 2], strict=True)] for i in (0, 2, 4)]
    assert equal == [[t < shared for t in range(5)] for shared in (4, 3, 2)]


def test_a_response_that_ended_has_no_state_to_share():
    """Padding of one row is not the text of another, even where the padding's token may occur in texts."""
    tokens, inside = np.array([[7, 1, 0, 0, 0], [7, 1, 0, 0, 0]]), np.array([[1, 1, 0, 0, 0], [1, 1, 1, 1, 1]], bool)
    found = np.asarray(states(tokens, inside))
    assert (found[0, :3] == found[1, :3]).all() and (found[0, 3:] != found[1, 3:]).all()

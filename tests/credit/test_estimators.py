"""Every estimator against a plain loop over tokens in float64, whatever the mask, and by what must not change."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from credit.estimator_loops import LOOPS, STREAMS, B, G, N, T, batches, steps
from hypothesis import given, settings
from hypothesis import strategies as st

from stepjax.credit.streams import Stream, combine

quick = settings(max_examples=40, deadline=None, derandomize=True)


@jax.jit
def compiled(batch):
    return combine(STREAMS, **batch, group=G)


@quick
@given(batches())
def test_each_estimator_equals_a_loop_over_tokens(batch):
    found = np.asarray(compiled(batch).advantages)
    assert found.dtype == np.float32 and not found[:, ~batch["mask"]].any()
    rewards = batch["rewards"][0].astype(np.float64)
    # A difference of two sums is as exact as these are: a few roundings of the largest that there can be.
    rounding = max(1e-6, 3e-7 * np.abs(rewards).sum(-1).max())
    for i, stream in enumerate(STREAMS):
        expected = LOOPS[stream.estimator](stream, batch, rewards)
        np.testing.assert_allclose(found[i], expected, rtol=1e-6, atol=rounding, err_msg=f"{stream}")


@quick
@given(batches(jnp.float32))
def test_what_is_not_masked_or_not_scored_is_not_read(batch):
    junk = dict(batch)
    for name in ("rewards", "values"):
        junk[name] = np.where(batch["mask"], batch[name], np.float32(np.nan))
    for name in ("step_end", "turn_end"):
        junk[name] = batch[name] | ~batch["mask"]
    junk["scored"] = batch["scored"] | ~batch["mask"]
    for i in (i for i, s in enumerate(STREAMS) if s.estimator in ("value", "progress", "group")):
        junk["rewards"][i] = np.where(batch["scored"][i], junk["rewards"][i], np.float32(np.inf))
    np.testing.assert_array_equal(compiled(batch).advantages, compiled(junk).advantages)


@quick
@given(batches(jnp.float32), st.integers(0, T - 2), st.sampled_from([0.5, 1e30, np.inf, np.nan]))
def test_later_steps_leave_the_earlier_ones_of_a_step_horizon_bit_identical(batch, cut, later):
    batch["mask"][:, cut : cut + 2], batch["step_end"][:, cut], batch["turn_end"][:, cut] = True, True, True
    batch["scored"][:, :, -1] = batch["mask"][:, -1] = True  # the last step stays the last one that was rated
    changed = {**batch, "rewards": batch["rewards"].copy(), "outcome": np.full((N, B), later, np.float32)}
    changed["rewards"][:, :, cut + 1 :] = later
    before, after = compiled(batch).advantages, compiled(changed).advantages
    for i, s in enumerate(STREAMS):
        if s.horizon in ("step", "turn") and s.estimator not in ("group", "rloo"):
            bits = [np.asarray(x[i, :, : cut + 1]).view(np.uint32) for x in (before, after)]
            np.testing.assert_array_equal(*bits, err_msg=f"{s}")


@quick
@given(batches(jnp.float32))
def test_progress_telescopes(batch):
    progress = np.asarray(compiled(batch).advantages[[s.estimator for s in STREAMS].index("progress")])
    for b in range(B):
        made = sum(float(progress[b, step[-1]]) for step in steps(batch, b))
        scores = [batch["rewards"][0, b, s[-1]] for s in steps(batch, b) if batch["scored"][0, b, s[-1]]]
        if not scores:
            assert made == 0.0
            continue
        last = batch["outcome"][0, b] if batch["finished"][b] else scores[-1]
        np.testing.assert_allclose(made, float(last) - float(batch["first"][0, b]), atol=1e-6)


@functools.partial(jax.jit, static_argnames=("stream", "group"))
def of_stream(stream, rewards, mask, step_end, **options):
    return combine([stream], rewards, jnp.zeros_like(rewards), mask, step_end, **options).advantages[0]


def one(estimator, rewards, step_end=None, *, mask=None, horizon="step", **options):
    """The advantages of one stream."""
    rewards = np.asarray(rewards, np.float32)[None]
    mask = np.ones(rewards.shape[1:], bool) if mask is None else mask
    step_end = mask if step_end is None else step_end
    return np.asarray(of_stream(Stream("one", horizon, estimator=estimator), rewards, mask, step_end, **options))


def test_by_hand():
    """Two responses to a problem: steps of two tokens and of one, scores at their ends."""
    rewards = [[0, 3, 1, 0], [0, 1, 0, 0]]
    mask = np.array([[True, True, True, False], [True, True, False, False]])
    end = np.array([[False, True, True, False], [False, True, False, False]])
    assert one("return", rewards, end, mask=mask, horizon="response").tolist() == [[4, 4, 1, 0], [1, 1, 0, 0]]
    assert one("value", rewards, end, mask=mask).tolist() == [[3, 3, 1, 0], [1, 1, 0, 0]]
    assert one("progress", rewards, end, mask=mask).tolist() == [[3, 3, -2, 0], [1, 1, 0, 0]]
    ends = {"outcome": np.array([[5.0, 7.0]]), "first": np.array([[2.0, 2.0]]), "finished": np.array([True, False])}
    assert one("progress", rewards, end, mask=mask, **ends).tolist() == [[1, 1, 2, 0], [-1, -1, 0, 0]]
    # Scores 3, 1, 1: mean 5/3, standard deviation √8/3.
    good, bad = (3 - 5 / 3) * 3 / 8**0.5, (1 - 5 / 3) * 3 / 8**0.5
    wanted = [[good, good, bad, 0], [bad, bad, 0, 0]]
    np.testing.assert_allclose(one("group", rewards, end, mask=mask, group=2), wanted, rtol=1e-6)
    wanted = [[good + bad, good + bad, bad, 0], [bad, bad, 0, 0]]
    found = one("group", rewards, end, mask=mask, group=2, horizon="response")
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    # The other's only step earned 1; this one's two steps 2 on average and 4 together.
    assert one("rloo", rewards, end, mask=mask, group=2).tolist() == [[2, 2, 0, 0], [-1, -1, 0, 0]]
    found = one("rloo", rewards, end, mask=mask, group=2, horizon="response")
    assert found.tolist() == [[3, 3, 0, 0], [-3, -3, 0, 0]]


@pytest.mark.parametrize("score", [0.0, 0.1, -1e30, 1e-30])
def test_a_group_whose_scores_are_all_the_same_has_nothing_to_compare(score):
    scores = np.full((6, 7), score, np.float32)
    np.testing.assert_array_equal(one("group", scores, group=3), np.zeros((6, 7)))


def test_scores_that_differ_by_rounding_are_the_same():
    scores = np.full((6, 7), 0.1, np.float32)
    scores[0, 0] = np.nextafter(scores[0, 0], np.float32(1))
    np.testing.assert_array_equal(one("group", scores, group=3), np.zeros((6, 7)))
    scores[0, 0] += 1e-4
    assert one("group", scores, group=3)[:3].all()


def test_outcomes_are_compared_as_in_grpo_and_rloo():
    """A signal with one score a response: the classical estimators, on every token."""
    rewards = np.zeros((6, 5), np.float32)
    rewards[:, -1] = outcome = np.array([1, 0, 0, 1, 1, 0], np.float32)
    scored = np.zeros((1, 6, 5), bool)
    scored[..., -1] = True
    found = one("group", rewards, horizon="response", scored=scored, group=3)
    groups = outcome.reshape(2, 3)
    normalised = ((groups - groups.mean(1, keepdims=True)) / groups.std(1, keepdims=True)).reshape(-1, 1)
    np.testing.assert_allclose(found, np.broadcast_to(normalised, (6, 5)), rtol=1e-5)
    found = one("rloo", rewards, horizon="response", scored=scored, group=3)
    others = (groups.sum(1, keepdims=True) - groups) / 2
    np.testing.assert_allclose(found, np.broadcast_to((groups - others).reshape(-1, 1), (6, 5)), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("estimator", ["group", "rloo"])
def test_problems_are_not_compared_with_each_other(estimator):
    rewards = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    apart = [one(estimator, rewards[i : i + 3], group=3) for i in (0, 3)]
    np.testing.assert_allclose(one(estimator, rewards, group=3), np.concatenate(apart), rtol=1e-6, atol=1e-6)


def test_a_response_does_not_move_its_own_baseline():
    """RLOO: what a row earns more, its tokens get more, to the last bit, whatever it was compared with."""
    rewards = np.random.default_rng(1).integers(-3, 4, size=(4, 6)).astype(np.float32)
    more = rewards + 8 * (np.arange(4) == 2)[:, None]
    for horizon, gain in (("step", np.full(6, 8.0)), ("response", 8.0 * np.arange(6, 0, -1))):
        before, after = (one("rloo", r, horizon=horizon, group=4) for r in (rewards, more))
        np.testing.assert_allclose(after[2] - before[2], gain, rtol=1e-5)


@pytest.mark.parametrize("estimator", ["gae", "return", "value", "progress", "group", "rloo"])
@pytest.mark.parametrize("whitened", [False, True])
def test_two_halves_are_one_and_one_is_its_advantages(estimator, whitened):
    rng = np.random.default_rng(2)
    rewards, values = rng.normal(size=(2, 1, B, T)).astype(np.float32)
    mask, end = rng.random((B, T)) < 0.8, rng.random((B, T)) < 0.3
    streams = [Stream("s", weight=w, whiten=whitened, estimator=estimator) for w in (1.0, 0.5)]
    whole = combine(streams[:1], rewards, values, mask, end, group=G)
    np.testing.assert_array_equal(whole.weight, whole.advantages[0])
    halves = combine(streams[1:] * 2, rewards.repeat(2, 0), values.repeat(2, 0), mask, end, group=G)
    np.testing.assert_allclose(halves.weight, whole.weight, rtol=1e-6, atol=1e-6)


def test_turns_are_cut_and_steps_inside_of_them_are_not():
    full = np.ones((1, 6))
    end, turn = np.array([[0, 1, 0, 1, 0, 1]], bool), np.array([[0, 0, 0, 1, 0, 0]], bool)
    assert one("return", full, end, horizon="turn", turn_end=turn).tolist() == [[4, 3, 2, 1, 2, 1]]
    assert one("return", full, end, horizon="turn").tolist() == [[6, 5, 4, 3, 2, 1]]
    assert one("return", full, end, horizon="response", turn_end=turn).tolist() == [[6, 5, 4, 3, 2, 1]]


@pytest.mark.parametrize("changes, said", [
    ({"estimator": "retrun"}, "estimator 'retrun': must be one of gae, return"),
    ({"estimator": "value", "horizon": "response"}, 'horizon must be "step" and gamma 1, not \'response\''),
    ({"estimator": "progress", "horizon": 0.5}, 'horizon must be "step" and gamma 1, not 0.5'),
    ({"estimator": "progress", "horizon": "turn"}, 'horizon must be "step" and gamma 1, not \'turn\''),
    ({"estimator": "value", "gamma": 0.9}, 'horizon must be "step" and gamma 1, not \'step\' and 0.9'),
])  # fmt: skip
def test_streams_that_contradict_themselves_are_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        Stream("mine", **changes)


def test_only_gae_has_a_critic():
    assert [Stream("s", estimator=e).critic for e in ("gae", "return", "value", "progress", "group", "rloo")] == [
        True, *[False] * 5,
    ]  # fmt: skip


@pytest.mark.parametrize("estimator", ["group", "rloo"])
def test_a_group_of_one_is_refused(estimator):
    with pytest.raises(ValueError, match="needs a group of 2 rows or more"):
        one(estimator, np.ones((4, 3)))
    with pytest.raises(AssertionError):  # 4 rows are no groups of 3
        one(estimator, np.ones((4, 3)), group=3)


def test_rows_on_eight_devices_ask_each_other_for_nothing():
    """No collective in the compiled text; groups and whitening are what brings some in."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    def spread(shape, dtype, axis):
        spec = jax.sharding.PartitionSpec(*[None] * axis, "data")
        return jax.ShapeDtypeStruct(shape, dtype, sharding=jax.sharding.NamedSharding(mesh, spec))

    def text(streams):
        n, b = len(streams), 16
        batch = {name: spread((n, b, T), jnp.float32, 1) for name in ("rewards", "values")}
        batch |= {name: spread((b, T), bool, 0) for name in ("mask", "step_end", "turn_end")}
        batch |= {name: spread((n, b), jnp.float32, 1) for name in ("bootstrap", "first", "outcome")}
        batch |= {"scored": spread((n, b, T), bool, 1), "finished": spread((b,), bool, 0)}
        program = jax.jit(lambda batch: combine(streams, **batch, group=2))
        return program.lower(batch).compile().as_text()

    collectives = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
    alone = text([s for s in STREAMS if s.estimator not in ("group", "rloo")])
    assert not [name for name in collectives if name in alone]
    assert "all-reduce" in text([Stream("white", whiten=True)])

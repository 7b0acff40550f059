"""Every row of the registry of signals tells the truth: where it pays, what it reads, how it may be shaped."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stepjax.config import StreamOptions
from stepjax.errors import UserError
from stepjax.rewards.by_token import by_token
from stepjax.rewards.check import check_signals
from stepjax.rewards.reward_streams import host_figures, is_learned, reading, reads_environment, reads_implicit, scored
from stepjax.rewards.signals import SIGNALS
from stepjax.steps import Steps
from stepjax.trajectory import Trajectory, Turns

B, P, T = 3, 2, 8
FIELDS = {field.name: field for field in dataclasses.fields(StreamOptions)}
OWN = {name for row in SIGNALS.values() for name in row.options}
GIVEN = {"pattern": "a+", "function": "builtins:len", "most": 2}
"""Values of own options with which every signal passes its checks."""

PERS = {
    name: ("step", *(["response"] if row.response_place else []), *(["token"] if row.token_place else []))
    for name, row in SIGNALS.items()
}
EVERY_TOKEN = (("kl", "step"), ("implicit", "token"))
EVERY_TURN = (("environment", "step"),)
VARIANTS = [(name, per) for name, pers in PERS.items() for per in pers]


def options_of(signal: str, per: str = "step", **changes) -> StreamOptions:
    given = {name: value for name, value in GIVEN.items() if name in SIGNALS[signal].options}
    return StreamOptions(signal=signal, per=per, good=2.0, neutral=0.5, bad=-3.0, **given, **changes)


@st.composite
def trajectories(draw) -> tuple[Trajectory, dict[str, np.ndarray]]:
    """Responses of any length, empty ones too, with steps of any length, and what the host says of them."""
    lengths = draw(hnp.arrays(np.int32, B, elements=st.integers(0, T - P)))
    mask = (np.arange(T) >= P) & (np.arange(T) < P + lengths[:, None])
    last = np.arange(T) == P + lengths[:, None] - 1
    end = mask & (draw(hnp.arrays(np.bool_, (B, T))) | last)
    index = np.where(mask, np.cumsum(end, axis=1) - end, -1).astype(np.int32)
    numbers = np.random.default_rng(draw(st.integers(0, 9))).random((5, B, T)).astype(np.float32) + 0.5
    rows = Trajectory(
        tokens=jnp.zeros((B, T), jnp.int32),
        prompt_length=jnp.full(B, P, jnp.int32),
        response_length=jnp.asarray(lengths),
        finished=jnp.asarray(draw(hnp.arrays(np.bool_, B))),
        logprobs=jnp.zeros((B, T)),
        prompt_width=P,
        steps=Steps(jnp.asarray(index), jnp.asarray(end)),
        old_logprobs=jnp.asarray(-numbers[0]),
        ref_logprobs=jnp.asarray(-2 * numbers[1]),
        prm=jnp.asarray(np.stack([numbers[2], numbers[3], numbers[2]], -1)),
        implicit=jnp.asarray(numbers[4]),
        turns=Turns(jnp.asarray(np.where(end, numbers[0], 0.0)), jnp.asarray(end), jnp.zeros(B, jnp.int32)),
    )
    steps = end.sum(axis=1)
    texts = {
        "step": [np.arange(1.0, n + 1, dtype=np.float32) for n in steps],
        "response": [np.array(5.0, np.float32)] * B,
    }
    host = {
        "rating": np.where(end, draw(hnp.arrays(np.int8, (B, T), elements=st.integers(-1, 1))), 0).astype(np.float32),
        "correct": draw(hnp.arrays(np.bool_, B)),
        "limit_kept": draw(hnp.arrays(np.int8, B, elements=st.integers(-1, 1))).astype(np.float32),
        **{per: by_token(rewards, index, end) for per, rewards in texts.items()},
    }
    return rows, host


@jax.jit
def everything(rows: Trajectory, host):
    """Of each variant: the rewards and the tokens that carry its scores."""
    found = []
    for signal, per in VARIANTS:
        options = options_of(signal, per)
        own = {**host, "text_reward": host.get(per, host["step"])}
        found.append((SIGNALS[signal].rewards(rows, own, options), scored(rows, options)))
    return found


@settings(max_examples=60, deadline=None, derandomize=True)
@given(trajectories())
def test_signals_pay_where_their_rows_say(case):
    rows, host = case
    mask = np.asarray(rows.mask)
    for variant, (rewards, places) in zip(VARIANTS, everything(rows, host), strict=True):
        rewards, places = np.asarray(rewards), np.asarray(places)
        assert rewards.shape == places.shape == (B, T) and rewards.dtype == np.float32, variant
        assert not rewards[~places].any(), variant
        assert not places[~mask].any(), variant
        if not SIGNALS[variant[0]].place_of(options_of(*variant)).of_steps and variant not in EVERY_TOKEN + EVERY_TURN:
            assert places.sum(axis=1).max() <= 1, f"{variant}: more than one score a response"


def is_telling(case) -> bool:
    """Whether the first row ended by itself, after two steps or more."""
    return bool(case[0].finished[0]) and case[0].steps.end[0].sum() > 1


CASE = find(trajectories(), is_telling, settings=settings(database=None, deadline=None, derandomize=True))


class Asked(dict):
    """A host that remembers what it was asked for."""

    def __init__(self, *args):
        super().__init__(*args)
        self.asked = set()

    def __getitem__(self, name):
        self.asked.add(name)
        return super().__getitem__(name)


@pytest.mark.parametrize("signal", SIGNALS)
def test_signals_ask_the_host_for_what_their_rows_say(signal):
    rows, host = CASE
    row, asked = SIGNALS[signal], Asked({**host, "text_reward": host["step"]})
    row.rewards(rows, asked, options_of(signal))
    assert asked.asked == {*row.host, *(["text_reward"] if row.text_reward else [])}


@pytest.mark.parametrize("signal", SIGNALS)
def test_signals_alone_that_say_so_read_the_reward_models(signal):
    rows, host = CASE
    row, given = SIGNALS[signal], ({**host, "text_reward": host["step"]}, options_of(signal))
    assert row.learned == is_learned(options_of(signal))
    assert row.implicit == reads_implicit({"mine": options_of(signal)})
    assert row.environment == bool(reads_environment({"mine": options_of(signal)}))
    for reads, column in ((row.learned, "prm"), (row.implicit, "implicit"), (row.environment, "turns")):
        blind = dataclasses.replace(rows, **{column: None})
        if reads:
            with pytest.raises(AssertionError):
                row.rewards(blind, *given)
        else:
            np.testing.assert_array_equal(row.rewards(blind, *given), row.rewards(rows, *given))


READ: set[str] = set()


class Reading(StreamOptions):
    """Options that remember which of them were read."""

    def __getattribute__(self, name):
        if name in FIELDS:
            READ.add(name)
        return super().__getattribute__(name)


@pytest.mark.parametrize("signal", SIGNALS)
def test_signals_read_the_options_that_their_rows_name(signal):
    rows, host = CASE
    row, given = SIGNALS[signal], {**host, "text_reward": host["step"]}
    for per in PERS[signal]:
        plain = options_of(signal, per)
        options = Reading(**{name: getattr(plain, name) for name in FIELDS})
        READ.clear()
        row.rewards(rows, given, options)
        row.place_of(options)
        if row.check:
            row.check(options, "here")
        if row.text_reward:
            reward = row.text_reward(options, "here")
            if signal == "format":
                reward(["p"], ["a"], [["a"]])
        # kl_target is read by the update, which adapts the stream's weight.
        assert {*row.options} - {"kl_target"} == READ & OWN
    assert ("per" in row.options) == (len(PERS[signal]) > 1)
    assert set(row.options) <= set(FIELDS) and set(row.needs) <= set(row.options)


@pytest.mark.parametrize(("signal", "per"), VARIANTS)
def test_signals_are_shaped_as_their_rows_say(signal, per):
    row = SIGNALS[signal]

    def allowed(shaping: str) -> bool:
        try:
            check_signals({"mine": options_of(signal, per, shaping=(shaping,))})
        except UserError as error:
            assert "mine.shaping: " in str(error)
            return False
        return True

    of_steps = row.shapeable and row.place_of(options_of(signal, per)).of_steps
    assert [allowed(s) for s in ("clip:0", "delta", "min_form:1")] == [of_steps] * 3
    assert allowed("bound:0:1") == row.shapeable


def test_the_help_of_the_option_names_every_signal():
    assert set(re.findall(r"(\w+) \(", FIELDS["signal"].metadata["doc"])) == set(SIGNALS)


def test_figures_of_the_host_are_asked_for_once_and_by_stream():
    names = ("limit", "prm", "outcome", "limit", "verifier")
    streams = {f"{name}{i}": options_of(name) for i, name in enumerate(names)}
    assert host_figures(streams) == ["limit_kept"]
    assert reading(streams, "limit_kept") == ["limit0", "limit3"] and reading(streams, "rating") == ["verifier4"]

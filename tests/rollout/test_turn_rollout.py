"""Rollouts that an environment answers over turns: the tokens of an environment in the loop, whenever replies come."""

import dataclasses
import functools
import random
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from models.tiny import policy, policy_params
from rollout.test_environment import BYTES
from rollout.test_program import EOS, LENGTHS, NEW, PROMPTS, WIDTH, as_int32, learner_logprobs

from stepjax.config import EnvironmentOptions
from stepjax.parallel import batch_sharding, fetch, make_mesh, put, replicated
from stepjax.rollout.environment import HostTool
from stepjax.rollout.program import RolloutShape, rollout_program
from stepjax.rollout.sampling import Sampler
from stepjax.rollout.slots import Queue
from stepjax.rollout.stops import StopStrings
from stepjax.rollout.talks import Words
from stepjax.rollout.turn_rollout import TurnRollout
from stepjax.tasks.base import Problem
from stepjax.tasks.environment_process import Answer
from stepjax.tasks.turns import CAUSES, DONE, LATE, LONG, TOKENS, TURN_LIMIT, Reply

ROWS, SAMPLES = 16, 2
OPTIONS = EnvironmentOptions(name="own", reply_tokens=4, steps=3)
CALLS = [chr(60 + i) for i in range(1, 40, 4) if i != EOS]
"""Letters that end a turn."""

slow = functools.partial(pytest.param, marks=pytest.mark.slow)


def letters(ids) -> str:
    return "".join(chr(60 + i) for i in ids if i != EOS)


def replied(text: str) -> str:
    """What stands behind a call, by the whole text so far: nothing, one letter or two."""
    return ("", "@", "@B")[len(text) % 3]


class Tool:
    """The environment in the loop."""

    call = "A"

    def reply(self, text):
        return replied(text) or None


class Pool:
    """Environments in this process, each of whose replies comes after some looks; the number of the row says how."""

    def __init__(self, seed: int, ends=None):
        self.random, self.waits, self.ends = random.Random(seed), [], ends or {}

    def reset(self, row, problem):
        if row == 0:
            self.texts, self.looks = {}, 0
        self.texts[row] = problem.answer
        self._later(Answer(row, Reply(problem.answer)))

    def step(self, row, text):
        assert row in self.texts
        self.texts[row] += text
        cause = self.ends.get(row)
        reply = replied(self.texts[row]) if text and text[-1] in CALLS else ""
        done = not (text and text[-1] in CALLS)
        self.texts[row] += reply
        answer = Answer(row, Reply("@" * 9 if cause == LONG else reply, float(len(text)), done))
        self._later(Answer(row, None, cause, "told") if cause == LATE else answer)

    def _later(self, answer):
        self.waits.append([self.random.randrange(7), answer])

    def poll(self, seconds=0.0):
        self.looks += 1
        for wait in self.waits:
            wait[0] -= 1
        there = [answer for left, answer in self.waits if left < 0]
        self.waits = [wait for wait in self.waits if wait[0] >= 0]
        return there

    @property
    def busy(self):
        return bool(self.waits)

    def forget(self, row):
        del self.texts[row]

    def close(self):
        pass


WORDS = Words(SimpleNamespace(
    ends=(EOS,), text=letters,
    tokenizer=SimpleNamespace(encode=lambda text, **_: [ord(letter) - 60 for letter in text]),
))  # fmt: skip


@functools.cache
def rollout(mesh=(1, 1, 1), slots=5, block=0, cache_tokens=0, record=False):
    on = make_mesh(*mesh, devices=jax.devices()[: int(np.prod(mesh))])
    shape = RolloutShape(
        ROWS, WIDTH, NEW, samples=SAMPLES, slots=slots, block=block, cache_tokens=cache_tokens, halvings=0
    )
    stops, sampler = StopStrings(BYTES, CALLS), Sampler(1.0, top_k=30 if record else 0)
    made = TurnRollout(policy(), on, shape, OPTIONS, Pool(0), WORDS, sampler=sampler, stops=stops, record=record)
    return made, jax.device_put(policy_params(), policy().shardings(on))


def played(seed=0, ends=None, greets=(), options=OPTIONS, **sizes):
    made, params = rollout(**sizes)
    made.pool, made.options = Pool(seed, ends), options
    key = jax.device_put(jax.random.key(7), replicated(made.rollout.mesh))
    prompts = [PROMPTS[i, WIDTH - LENGTHS[i] :].tolist() for i in range(8)]
    problems = [Problem(str(i), "", "@@" if i in greets else "") for i in range(8)]
    found, occupancy = made(params, prompts, problems, np.repeat(np.arange(8), SAMPLES), key, np.arange(ROWS))
    return fetch(found), fetch(occupancy)


@functools.cache
def in_the_loop():
    """The same environment written by `HostTool`, in one program."""
    mesh = make_mesh(1, 1, 1, devices=jax.devices()[:1])
    tool = HostTool(Tool(), WORDS.framing.tokenizer, BYTES, 4)
    tool.environment.call = ""
    tool.asks = np.isin(np.arange(40), [ord(letter) - 60 for letter in CALLS])
    made = rollout_program(policy(), mesh, RolloutShape(ROWS, WIDTH, NEW, samples=SAMPLES), eos=EOS,
                           sampler=Sampler(1.0), tool=tool)  # fmt: skip
    params = jax.device_put(policy_params(), policy().shardings(mesh))
    queue = as_int32(Queue(np.arange(ROWS) // SAMPLES, np.arange(ROWS), np.full(ROWS, NEW)))
    placed = put((PROMPTS, LENGTHS, queue), batch_sharding(mesh))
    return fetch(made(params, placed[0], placed[1], jax.device_put(jax.random.key(7), replicated(mesh)), placed[2])[0])


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        slow({"mesh": (2, 2, 2), "slots": 8}),
        slow({"mesh": (8, 1, 1), "slots": 0}),
        slow({"block": 2, "cache_tokens": 60}),
        slow({"options": dataclasses.replace(OPTIONS, steps=1)}),
    ],
)
def test_tokens_are_those_of_an_environment_in_the_loop_whenever_its_replies_come(sizes):
    theirs, turns = in_the_loop(), 0
    for seed in (0, 1):
        ours, occupancy = played(seed, **sizes)
        for row in range(ROWS):
            count, cause = int(ours.response_length[row]), int(ours.turns.cause[row])
            span = slice(WIDTH, WIDTH + count)
            np.testing.assert_array_equal(ours.tokens[row, : span.stop], theirs.tokens[row, : span.stop])
            np.testing.assert_array_equal(ours.env_tokens[row, span], theirs.env_tokens[row, span])
            assert cause in (DONE, TOKENS) and bool(ours.finished[row]) == (cause == DONE) == bool(theirs.finished[row])
            if cause == DONE:
                assert count == theirs.response_length[row]
            else:  # its last reply had no room
                assert theirs.env_tokens[row, span.stop :].sum() == NEW - count
            turns += int(ours.turns.rated[row].sum())
        assert occupancy.steps > 0 and (ours.turns.cause == TOKENS).any() and (ours.turns.cause == DONE).any()
    assert turns > 3 * ROWS


def fields(rows):
    """What does not depend on when replies come, but for the log-probabilities."""
    return {
        "tokens": rows.tokens, "length": rows.response_length, "env_tokens": rows.env_tokens, "cause": rows.turns.cause,
        "prompt": rows.prompt_length, "rewards": rows.turns.rewards, "rated": rows.turns.rated, "end": rows.finished,
    }  # fmt: skip


def use(**sizes):
    return rollout(**sizes)[0].use


@functools.cache
def prefilled_again():
    """Each row goes on prefilled with all that it has."""
    rows, _ = played(greets=(1, 4), options=dataclasses.replace(OPTIONS, fed_tokens=0))
    assert use().fed == 0 and use().prefilled_again > rows.response_length.sum()
    return rows, use().prefilled_again


@pytest.mark.parametrize(
    "sizes, fed_tokens",
    [
        ({}, 64),
        ({}, 1),
        slow({"block": 2}, 64),
        slow({"block": 3, "mesh": (2, 2, 2), "slots": 8}, 64),
        slow({"mesh": (8, 1, 1), "slots": 0}, 1),
        slow({"block": 2, "cache_tokens": 46}, 64),
        slow({"block": 2, "cache_tokens": 46}, 1),
        slow({"block": 3, "cache_tokens": 48, "slots": 3}, 64),
        slow({"block": 2, "cache_tokens": 24, "mesh": (4, 1, 1), "slots": 8}, 64),
    ],
)
def test_rows_that_are_held_only_read_the_reply_and_go_on_as_those_that_are_prefilled_again(sizes, fed_tokens):
    theirs, tokens = prefilled_again()
    for seed in (0, 3):
        ours, occupancy = played(
            seed, greets=(1, 4), options=dataclasses.replace(OPTIONS, fed_tokens=fed_tokens), **sizes
        )
        for name, found in fields(ours).items():
            np.testing.assert_array_equal(found, fields(theirs)[name], name)
        np.testing.assert_allclose(ours.logprobs, theirs.logprobs, atol=1e-5)
        found, written = use(**sizes), int(ours.env_tokens.sum())
        if "cache_tokens" in sizes:  # some had to give up what the cache held of them, or were put back
            assert found.prefilled_again and found.fed
        elif fed_tokens > 1:
            assert (found.fed, found.prefilled_again, occupancy.given) == (written, 0, written)
        else:
            assert 0 < found.prefilled_again < tokens and 0 < found.fed < written
    for name in ("start", "turn", "add"):
        program = getattr(rollout(**sizes)[0].rollout.programs, name)
        assert program._compiled is program.compile() and program._jit._cache_size() == 0


def test_rewards_stand_on_the_last_own_token_of_each_turn():
    rows, _ = played()
    mask, rated = np.asarray(rows.mask), rows.turns.rated
    assert not (rated & ~mask).any() and not (rows.turns.rewards != 0)[~rated].any()
    for row in range(ROWS):
        own = 0
        for at in range(WIDTH, WIDTH + int(rows.response_length[row])):
            own = 0 if rows.env_tokens[row, at] else own + (rows.tokens[row, at] != EOS)
            if rated[row, at]:
                assert rows.turns.rewards[row, at] == own
                own = 0
        ends = rated[row, mask[row]][-1]
        assert ends or rows.turns.cause[row] == TOKENS


def test_logprobs_are_those_of_the_full_pass_and_nothing_of_the_environments():
    rows, _ = played(greets=(1, 4))
    mask = np.asarray(rows.mask)
    assert rows.env_tokens[2:4, WIDTH : WIDTH + 2].all() and rows.env_tokens[8:10, WIDTH : WIDTH + 2].all()
    found = learner_logprobs(policy_params(), rows.tokens, rows.positions, rows.segments)
    np.testing.assert_allclose(rows.logprobs[:, 1:][mask[:, 1:]], found[mask[:, 1:]], atol=1e-4)
    assert not rows.logprobs[~mask].any()


def test_a_failure_ends_its_row_alone(capsys):
    (plain, _), (rows, _) = played(), played(ends={3: LATE, 8: LONG})
    failed = np.isin(np.arange(ROWS), (3, 8)) & (plain.turns.cause != DONE)
    assert failed.any()
    for row in range(ROWS):
        if not failed[row]:
            assert rows.turns.cause[row] == plain.turns.cause[row] or row in (3, 8)
        if row not in (3, 8):
            np.testing.assert_array_equal(rows.tokens[row], plain.tokens[row])
    assert CAUSES[rows.turns.cause[3]] == "late" and not rows.finished[3] and not rows.turns.rated[3].any()
    assert 0 < rows.response_length[3] <= plain.response_length[3]


def test_limits_of_turns():
    rows, _ = played(options=dataclasses.replace(OPTIONS, turns=2))
    assert rows.turns.rated.sum(axis=1).max() == 2
    assert (rows.turns.cause == TURN_LIMIT).any() and not rows.finished[rows.turns.cause == TURN_LIMIT].any()


@pytest.mark.slow
def test_limits_of_a_turns_tokens():
    rows, _ = played(options=dataclasses.replace(OPTIONS, turn_tokens=2))
    for row in range(ROWS):
        own = np.flatnonzero(rows.turns.rated[row])
        assert (np.diff([WIDTH - 1, *own]) <= 2 + 2).all()


@pytest.mark.slow
def test_what_filters_kept_stays_with_the_tokens():
    rows, _ = played(record=True)
    mask = np.asarray(rows.mask)
    word = np.take_along_axis(rows.kept.record, rows.tokens[..., None] // 32, axis=-1)[..., 0]
    assert rows.kept.form.words == 2 and ((word >> (rows.tokens % 32).astype(np.uint32)) & 1)[mask].all()

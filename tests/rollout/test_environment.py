"""An environment writes into responses: what it wrote, when, and that it is nobody's credit."""

import dataclasses
import functools
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from models.tiny import CONFIG, policy, policy_params
from rollout.test_program import EOS, LENGTHS, NEW, PROMPTS, WIDTH, as_int32, learner_logprobs

from stepjax.errors import UserError
from stepjax.parallel import batch_sharding, make_mesh, put, replicated
from stepjax.rollout.environment import HostTool
from stepjax.rollout.program import RolloutShape, rollout_program
from stepjax.rollout.sampling import Sampler
from stepjax.rollout.slots import Queue
from stepjax.trajectory import Trajectory

# Token i is the letter chr(60 + i); 3, the end of text, has no bytes.
BYTES = [b"" if i == EOS else bytes([60 + i]) for i in range(CONFIG.vocab)]
REPLY = [30, EOS, 31]  # an end-of-text id that the environment writes ends nothing
LETTERS = SimpleNamespace(encode=lambda text, add_special_tokens: REPLY[: len(text)])


class Echo:
    """Answers every third letter that ends in A."""

    call = "A"

    def __init__(self, size: int = 3):
        self.size, self.asked = size, []

    def reply(self, text: str) -> str | None:
        self.asked.append(text)
        return None if len(text) > 9 else "x" * self.size


@functools.cache
def rollout(mesh_shape: tuple[int, int, int], size: int = 3):
    mesh = make_mesh(*mesh_shape, devices=jax.devices()[: int(np.prod(mesh_shape))])
    tool = HostTool(Echo(size), LETTERS, BYTES, 4)
    tool.asks = np.arange(CONFIG.vocab) % 4 == 1  # more calls than one letter gives; the text is not looked at here
    tool.environment.call = ""
    made = rollout_program(policy(), mesh, RolloutShape(8, WIDTH, NEW), eos=EOS, sampler=Sampler(1.0), tool=tool)
    params = jax.device_put(policy_params(), policy().shardings(mesh))
    key = jax.device_put(jax.random.key(7), replicated(mesh))
    queue = as_int32(Queue(np.arange(8), np.arange(8), np.full(8, NEW)))
    placed = put((PROMPTS, LENGTHS, queue), batch_sharding(mesh))
    return jax.device_get(made(params, placed[0], placed[1], key, placed[2])[0]), tool


def expected(rows: Trajectory, row: int, asks: np.ndarray) -> list[bool]:
    """Who wrote each token of a response, walked through in plain Python."""
    tokens = rows.tokens[row, WIDTH : WIDTH + rows.response_length[row]]
    wrote, queue = [], []
    for at, token in enumerate(tokens.tolist()):
        wrote.append(bool(queue))
        if queue:
            assert token == queue.pop(0)
        elif asks[token] and len("".join(chr(60 + t) for t in tokens[: at + 1].tolist() if t != EOS)) <= 9:
            queue = list(REPLY)
    return wrote


def test_replies_stand_where_they_were_asked_for():
    rows, tool = rollout((1, 1, 1))
    assert rows.env_tokens.sum() > 6
    for i in range(8):
        n = rows.response_length[i]
        wrote = expected(rows, i, tool.asks)
        assert rows.env_tokens[i, WIDTH : WIDTH + n].tolist() == wrote
        own = [t for t, w in zip(rows.tokens[i, WIDTH : WIDTH + n].tolist(), wrote, strict=True) if not w]
        assert (EOS in own) == bool(rows.finished[i]) and EOS not in own[:-1]
        assert n == NEW or rows.finished[i]
    assert not rows.env_tokens[~rows.response].any()


def test_env_tokens_are_masked_and_the_others_keep_their_logprobs():
    rows, _ = rollout((1, 1, 1))
    mask, env_tokens = np.asarray(rows.mask), np.asarray(rows.env_tokens)
    assert not (mask & env_tokens).any() and (mask | env_tokens == np.asarray(rows.response)).all()
    found = learner_logprobs(policy_params(), rows.tokens, rows.positions, rows.segments)
    np.testing.assert_allclose(rows.logprobs[:, 1:][mask[:, 1:]], found[mask[:, 1:]], atol=1e-4)
    assert not rows.logprobs[~mask].any()


@pytest.mark.parametrize("mesh_shape", [(8, 1, 1), (2, 2, 2)])
def test_every_device_asks_for_its_own_rows(mesh_shape):
    alone, sharded = rollout((1, 1, 1))[0], rollout(mesh_shape)[0]
    np.testing.assert_array_equal(alone.tokens, sharded.tokens)
    np.testing.assert_array_equal(alone.env_tokens, sharded.env_tokens)


def test_without_a_reply_it_is_the_plain_rollout():
    rows, _ = rollout((1, 1, 1), 0)
    from rollout.test_program import sample

    np.testing.assert_array_equal(rows.tokens, sample(range(8)).tokens)
    assert not rows.env_tokens.any()


def test_host_side_answers():
    tool = HostTool(Echo(), LETTERS, BYTES, 3)
    responses = np.array([[7, 5, 0], [5, 5, 0], [7, 7, 0], [5, 0, 0]])  # CA, AA, CC, A
    replies, counts = tool.answer(responses, np.array([2, 2, 2, 1]), np.array([True, False, True, True]))
    assert counts.tolist() == [3, 0, 0, 3] and replies[0].tolist() == REPLY
    assert tool.environment.asked == ["CA", "A"]  # the row that did not ask, and the text that is no call, are left out
    assert HostTool(Echo(), LETTERS, BYTES, 2).answer(responses, np.array([2, 2, 2, 1]), np.ones(4, bool))[1].sum() == 0


def test_a_call_that_no_token_ends_is_named():
    silent = dataclasses.make_dataclass("Silent", [("call", str, "é")])()
    with pytest.raises(UserError, match="Silent: no token of the tokenizer ends in 'é'"):
        HostTool(silent, LETTERS, BYTES, 3)

"""What an answer makes of a response, and how a reply becomes tokens."""

import numpy as np
import pytest
from tasks.chat_templates import tokenizer_of

from stepjax.config import EnvironmentOptions
from stepjax.data.framing import Framing
from stepjax.rollout.talks import Talk, Words, answered
from stepjax.tasks.base import Problem
from stepjax.tasks.environment_process import Answer
from stepjax.tasks.guess import build_tokenizer
from stepjax.tasks.turns import CAUSES, LATE, Reply

PLAIN = Words.of(Framing.of(build_tokenizer()), "", chat=False)
OPTIONS = EnvironmentOptions(name="own", reply_tokens=4, turns=3)
HIGHER = PLAIN.framing.tokenizer.encode("higher\n", add_special_tokens=False)


def begun(tokens: int = 0, kept: bool = False) -> Talk:
    """A response whose environment has begun, with a turn of so many tokens."""
    talk = Talk(Problem("", "", ""), [5])
    answered(talk, Answer(0, Reply()), PLAIN, OPTIONS, 12)
    assert talk.began and not talk.tokens and not talk.over
    talk.drew(np.full(tokens, 9), np.full(tokens, -0.5, np.float32), np.ones((tokens, 2), np.int32) if kept else None)
    return talk


def test_a_reply_stands_behind_the_turn_and_its_reward_on_the_turns_last_token():
    talk = begun(3, kept=True)
    answered(talk, Answer(0, Reply("higher\n", -0.25)), PLAIN, OPTIONS, 12)
    assert talk.tokens == [9, 9, 9, *HIGHER] and talk.written == [False] * 3 + [True] * len(HIGHER)
    assert talk.rewards == [(2, -0.25)] and talk.logprobs == [-0.5] * 3 + [0.0] * len(HIGHER)
    assert talk.kept.tolist() == [[1, 1]] * 3 + [[0, 0]] * len(HIGHER)
    count = len(talk.tokens)
    assert talk.drew(np.array([*talk.tokens, 8]), np.zeros(count + 1, np.float32), None) == [8]
    answered(talk, Answer(0, Reply()), PLAIN, OPTIONS, 12)
    assert talk.tokens[-1] == 8 and talk.rewards[-1] == (count, 0.0) and not talk.over, "nothing to say"


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (Answer(0, Reply("higher\n", 1.0, done=True)), "done"),
        (Answer(0, Reply("higher\n" * 3)), "long"),
        (Answer(0, None, LATE, "no reply"), "late"),
    ],
)
def test_what_ends_a_response(answer, cause):
    talk = begun(3)
    answered(talk, answer, PLAIN, OPTIONS, 12)
    assert CAUSES[talk.cause] == cause and talk.tokens == [9] * 3
    assert len(talk.rewards) == (answer.reply is not None)


def test_limits():
    talk = begun(10)
    answered(talk, Answer(0, Reply("higher\n", 2.0)), PLAIN, OPTIONS, 12)
    assert CAUSES[talk.cause] == "tokens" and talk.rewards == [(9, 2.0)], "no room for a token behind the reply"
    talk = begun(2)
    for turn in range(3):
        answered(talk, Answer(0, Reply()), PLAIN, OPTIONS, 12)
        assert talk.over == (turn == 2)
    assert CAUSES[talk.cause] == "turns"


AGAIN = "<|im_end|><|im_start|>user\ntwo <|im_end|><|im_end|><|im_start|>assistant\n"
"""As the template of the tests writes it, without line ends behind `<|im_end|>`."""


def test_a_chat_template_writes_the_users_next_turn():
    tokenizer = tokenizer_of("qwen2")
    words = Words.of(Framing.of(tokenizer), "", chat=True)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    said = tokenizer.decode(words.reply("two <|im_end|>", 5))
    assert said == AGAIN
    ids = words.reply("two <|im_end|>", 5)
    assert ids.count(end) == 2, "an end that the reply spells is plain text"
    assert words.reply("two", end) == words.reply("two", 5)[1:], "the policy has written its end"
    assert words.reply("", 5) == []


def test_a_template_of_ones_own():
    words = Words.of(Framing.of(build_tokenizer()), "? {reply}?\n", chat=True)
    assert words.framing.tokenizer.decode(words.reply("higher", 5)) == "? higher?\n"

"""Responses between policy and environment, on the host: what each has so far, and what an answer makes of it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepjax.config import EnvironmentOptions
from stepjax.data.framing import Framing
from stepjax.data.tokenizers import encode
from stepjax.tasks.base import Problem
from stepjax.tasks.environment_process import Answer
from stepjax.tasks.turns import DONE, LONG, TOKENS, TURN_LIMIT

REPLY = "{reply}"
_USER, _ANSWER, _AGAIN = "stepjaxquestion", "stepjaxanswer", "stepjaxreply"


@dataclasses.dataclass
class Talk:
    """A response so far.

    Attributes:
      problem: that it answers.
      prompt: its tokens.
      tokens: of the response; `logprobs` and `kept` of each, as the rollout recorded them (0 for the environment's).
      written: whether the environment wrote each of them.
      rewards: of each turn that was answered, and the number of the turn's last token.
      began: whether the environment has begun.
      cause: why it ended, a number of `CAUSES`; −1: it goes on.
      told: more of a failure, for people.
    """

    problem: Problem
    prompt: Sequence[int]
    tokens: list[int] = dataclasses.field(default_factory=list)
    logprobs: list[float] = dataclasses.field(default_factory=list)
    kept: np.ndarray | None = None
    written: list[bool] = dataclasses.field(default_factory=list)
    rewards: list[tuple[int, float]] = dataclasses.field(default_factory=list)
    began: bool = False
    cause: int = -1
    told: str = ""

    @property
    def over(self) -> bool:
        return self.cause >= 0

    def drew(self, tokens: np.ndarray, logprobs: np.ndarray, kept: np.ndarray | None) -> list[int]:
        """The response as the rollout has it now, at the end of a turn; the turn's tokens."""
        before = len(self.tokens)
        self.tokens, self.logprobs = tokens.tolist(), logprobs.tolist()
        self.kept = None if kept is None else kept.copy()
        self.written += [False] * (len(self.tokens) - before)
        return self.tokens[before:]


@dataclasses.dataclass(frozen=True)
class Words:
    """Turns to texts, and replies to tokens.

    Attributes:
      before, after: ids around a reply; `end`: the id that ends a turn, which is written before a reply where the
        policy has not.
    """

    framing: Framing
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    end: int | None = None

    @classmethod
    def of(cls, framing: Framing, template: str, *, chat: bool) -> "Words":
        """By the template; where it is empty by the chat template, if prompts have one (`chat`)."""
        written, end = template or REPLY, None
        if chat and not template:
            written, end = _of_chat(framing)
        before, _, after = written.partition(REPLY)
        return cls(framing, tuple(encode(framing.tokenizer, before)), tuple(encode(framing.tokenizer, after)), end)

    def text(self, tokens: Sequence[int]) -> str:
        """A turn's text, without its end-of-text token."""
        return self.framing.text(tokens)

    def reply(self, text: str, last: int | None) -> list[int]:
        """A reply's tokens; `last`: the turn's last one. Nothing of an empty reply.

        The reply is encoded by itself, so that no mark of the template can be spelled out in it.
        """
        if not text:
            return []
        ids: list[int] = self.framing.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        end = [] if self.end is None or last == self.end else [self.end]
        return [*end, *self.before, *ids, *self.after]


def _of_chat(framing: Framing) -> tuple[str, int | None]:
    """What a chat template writes between two turns of the assistant, and the id that ends the first one."""
    turns = [
        {"role": "user", "content": _USER},
        {"role": "assistant", "content": _ANSWER},
        {"role": "user", "content": _AGAIN},
    ]
    tokenizer: Any = framing.tokenizer
    whole = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    between = whole.rpartition(_ANSWER)[2].replace(_AGAIN, REPLY)
    for end in framing.ends:
        spelled = tokenizer.decode([end], skip_special_tokens=False)
        if spelled and between.startswith(spelled):
            return between.removeprefix(spelled), end
    return between, None


def answered(talk: Talk, answer: Answer, words: Words, options: EnvironmentOptions, most: int) -> None:
    """What the answer makes of a response: its tokens, or its end. `most`: tokens of the longest response."""
    if answer.reply is None:
        talk.cause, talk.told = answer.cause, answer.told
        return
    reply = answer.reply
    if talk.began:
        talk.rewards.append((len(talk.tokens) - 1, reply.reward))
        if reply.done or (options.turns and len(talk.rewards) >= options.turns):
            talk.cause = DONE if reply.done else TURN_LIMIT
            return
    tokens = words.reply(reply.text, talk.tokens[-1]) if talk.began else encode(words.framing.tokenizer, reply.text)
    talk.began = True
    if len(tokens) > options.reply_tokens:
        talk.cause, talk.told = LONG, f"a reply of {len(tokens)} tokens (environment.reply_tokens)"
    elif len(talk.tokens) + len(tokens) >= most:
        talk.cause = TOKENS
    else:
        talk.tokens += tokens
        talk.logprobs += [0.0] * len(tokens)
        talk.written += [True] * len(tokens)
        if talk.kept is not None:
            talk.kept = np.concatenate([talk.kept, np.zeros((len(tokens), *talk.kept.shape[1:]), talk.kept.dtype)])

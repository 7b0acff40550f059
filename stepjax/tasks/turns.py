"""Environments over turns: what the policy writes up to the end of a turn, and what an environment answers.

The class may live in any module: it is imported in a process of its own (`stepjax.tasks.environment_server`), without
JAX.
"""

from dataclasses import dataclass
from typing import Protocol

from stepjax.tasks.base import Problem

CAUSES = ("done", "turns", "tokens", "long", "late", "raised", "malformed", "lost")
"""What ends a response, by number:

  done: the environment said so: the only one after which a response is finished, not truncated.
  turns: `environment.turns` were over.
  tokens: the response, or the reply to it, has no room in `ppo.max_new_tokens`.
  long: a reply of more than `environment.reply_tokens`.
  late: no reply in `environment.seconds`.
  raised: the environment raised an exception.
  malformed: it returned no `Reply`, or one of other types.
  lost: its process ended.
"""

FAILURES = CAUSES[3:]
"""Those that are the environment's fault."""

DONE, TURN_LIMIT, TOKENS, LONG, LATE, RAISED, MALFORMED, LOST = range(len(CAUSES))


@dataclass(frozen=True)
class Reply:
    """An answer to a turn.

    Attributes:
      text: what stands in the response behind the turn; "": nothing, the policy goes on by itself.
      reward: of the turn, finite.
      done: nothing follows: the response is finished, and `text` is not written.
    """

    text: str = ""
    reward: float = 0.0
    done: bool = False


class TurnEnvironment(Protocol):
    """Answers one response; an object is made for each, with the keyword arguments of `config.environment.options`.

    Its class is the constant `TURNS` of a module of `stepjax.tasks`, or any that the config names. The texts are a
    model's: never execute them. Several objects answer at a time, in threads of a process that may be ended at any time
    where one of them hangs; then an object is made again and given the same turns, so the same turns must have the same
    replies. What an object prints goes to stderr.
    """

    call: str
    """A turn ends where its text ends in this, or with an end-of-text token; "": only with the latter."""

    def reset(self, problem: Problem) -> str | None:
        """What stands in the response before the first turn; None: nothing."""
        ...

    def step(self, text: str) -> Reply:
        """The reply to a turn, whose text ends in `call` where that has ended it (and in neither, where it came to
        `environment.turn_tokens`)."""
        ...

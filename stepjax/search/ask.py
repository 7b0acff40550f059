"""What a search asks, and what it is answered.

A search is a generator that yields a list of questions and is sent the list of their answers. It knows neither models
nor batches: `stepjax.search.flow` answers the questions of many problems as they come.

Prefixes are token ids of a response, from its first one on, without the prompt. They are never encoded again.
"""

import dataclasses
import enum
from collections.abc import Generator
from typing import Any, TypeAlias, TypeVar

R = TypeVar("R")

NUMBERS = 1 << 15
"""Lines of a problem, at most: with the problem's place they name a random key in 31 bits."""


class End(enum.Enum):
    """Why a continuation stopped. Three different things: only a response's end gives an answer.

    Attributes:
      STEP: its last asked step is complete; the response goes on.
      RESPONSE: its last token is one of the run's end ids.
      CUT: the response has `ppo.max_new_tokens` tokens and neither of the other two.
    """

    STEP = "step"
    RESPONSE = "response"
    CUT = "cut"


@dataclasses.dataclass(frozen=True)
class Expand:
    """`len(numbers)` continuations of a prefix, answered by as many `Sampled`, in order.

    A token's random key comes from (seed, problem, number, tokens of the response before it), so a response that is
    asked for step by step under one number has the tokens of one that is asked for at once. Continuations that share a
    number share their noise: a strategy gives a fresh number to every line that leaves another one.

    Attributes:
      prefix: ids of the response so far; empty at its start. It has neither ended nor been cut.
      numbers: one a continuation, below `NUMBERS`.
      steps: complete steps at most; 0: to the response's end.
      greedy: takes the likeliest token each time (a lookahead, whose numbers do not matter).
    """

    prefix: tuple[int, ...]
    numbers: tuple[int, ...]
    steps: int = 1
    greedy: bool = False


@dataclasses.dataclass(frozen=True)
class Sampled:
    """One continuation.

    Attributes:
      tokens: ids behind the prefix, the end id included.
      logprobs: of each of them, under the distribution it was sampled from.
      end: why it stopped.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    end: End

    @property
    def step_logprob(self) -> float:
        """Log-probability of all its tokens together."""
        return float(sum(self.logprobs))


@dataclasses.dataclass(frozen=True)
class Score:
    """The value of a prefix that is complete in its last step (or has ended), answered by a float in [0, 1]."""

    prefix: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Forget:
    """Prefixes that are not asked about again, so that what is kept for them may go; answered by None."""

    prefixes: tuple[tuple[int, ...], ...]


Question: TypeAlias = Expand | Score | Forget


@dataclasses.dataclass(frozen=True)
class Asked:
    """A question of one problem, as the answering side sees it.

    Attributes:
      problem: its place in the list of problems that the answers were made for; from 0.
    """

    problem: int
    question: Question


Search: TypeAlias = Generator[list[Question], list[Any], R]


def of_problem(problem: int, search: Search[R]) -> Generator[list[Asked], list[Any], R]:
    """The same search, whose questions name their problem."""
    try:
        questions = next(search)
        while True:
            questions = search.send((yield [Asked(problem, question) for question in questions]))
    except StopIteration as end:
        found: R = end.value
        return found


@dataclasses.dataclass(frozen=True)
class Cost:
    """What answers took.

    Attributes:
      asked: tokens of all continuations that were answered, discarded ones and lookaheads included.
      generated: tokens that the policy decoded for them; equal to `asked` where nothing is decoded twice.
      prefilled: tokens of prompts and prefixes that the policy read for the first time, a prompt once.
      computed_again: tokens of prompts and prefixes that it read though it had read or decoded them before.
      read: tokens that the scorer read.
    """

    asked: int = 0
    generated: int = 0
    prefilled: int = 0
    computed_again: int = 0
    read: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    def flops(self, policy: int, scorer: int) -> float:
        """Two a parameter and token: `policy` and `scorer` are numbers of parameters, 0 for a scorer without a model
        [Snell 2024]."""
        return 2.0 * policy * (self.generated + self.prefilled + self.computed_again) + 2.0 * scorer * self.read

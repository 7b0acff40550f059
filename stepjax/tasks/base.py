"""The interface of a task: problems with known answers, a grader, and optionally an exact verifier of single steps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from stepjax.config import Config


@dataclass(frozen=True)
class Problem:
    """One problem.

    Attributes:
      prompt: the problem in the task's own template, which the policy reads where `config.prompt` changes nothing.
      answer: the right final answer.
      solution: a demonstration in the policy's own format.
      step_limit: the most steps that the prompt allows, None where it does not state it.
      question: the problem alone, None where the prompt is no more than that.
      columns: what else the problem's row holds, by name, without answer and solution.
      unlearned: spans (start, end) of the solution's characters that a policy reads and does not learn to write.
    """

    id: str
    prompt: str
    answer: str
    solution: str | None = None
    step_limit: int | None = None
    question: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    unlearned: tuple[tuple[int, int], ...] = ()

    @property
    def text(self) -> str:
        """The problem alone, without the prompt template."""
        return (self.prompt if self.question is None else self.question).strip()


@dataclass(frozen=True)
class StepRating:
    """The exact rating of one step.

    Attributes:
      rating: +1 good (correct and advances), 0 neutral (true but useless), -1 bad (wrong).
      correct: whether the step is right; None where the task cannot decide (its trace error is then not reported).
      kind: a word for tables ("derive", "restate", "calculation", …).
    """

    rating: int
    correct: bool | None
    kind: str = ""


class Task(Protocol):
    """A problem source with its verifiers: what each task has. What only some have is in `tasks/hooks.py`.

    Splits are "train", "valid" and "test"; no two of them share a problem. "valid" may be empty where there are few.
    """

    name: str
    separator: str  # the text between two steps

    def problems(self, split: str) -> Sequence[Problem]:
        """The problems of a split, by random access (`len` and `[i]`); the same index gives the same problem."""
        ...

    def grade(self, problem: Problem, response: str) -> bool:
        """Whether the response's final answer is right."""
        ...

    def rate_steps(self, problem: Problem, steps: Sequence[str]) -> list[StepRating] | None:
        """One exact rating per step, or None where the task has no step verifier."""
        ...


@dataclass(frozen=True)
class TaskEntry:
    """How a task comes to be: the constant `TASK` of its module (`tasks/registry.py` finds it there).

    Attributes:
      make: builds the task from the whole config; a UserError names what cannot be read.
      tokenizer: builds the task's own tokenizer (Hugging Face); None: one is trained on its texts. A plan counts its
        entries where the task's data are not there, so it is no method of the task.
      final_answers: whether it grades final answers, by the library or by `task.grader` and `task.answer_pattern`.
    """

    make: Callable[[Config], Task]
    tokenizer: Callable[[], Any] | None = None
    final_answers: bool = False


class Environment(Protocol):
    """What may write into a response while it is sampled: its class is the constant `ENVIRONMENT` of its module.

    `stepjax.rollout.environment.HostTool` asks it wherever a row's text ends in `call`. What it writes takes the place
    of what would have been sampled, and is neither credited nor trained on.
    """

    call: str
    """A response that ends in this text may be a call. One character or more; a token must end in its last byte."""

    def reply(self, text: str) -> str | None:
        """The environment's reply after `text`, the response so far; None where that is not a call.

        The text is a model's: never execute it, and answer in bounded time. Rows are asked in any order and at any time
        of a rollout: keep no state between them. A reply of more than `ppo.reply_tokens` tokens is not given.
        """
        ...

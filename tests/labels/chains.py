"""RegisterChain demonstrations as solutions to label, and completers that need no model."""

import dataclasses
import functools

from stepjax.data.schema import LabelledSolution
from stepjax.drive import drive
from stepjax.labels.solution import Completion, Solution
from stepjax.steps import StepSplitter
from stepjax.tasks.base import Problem
from stepjax.tasks.register_chain import RegisterChain, RegisterChainConfig, build_tokenizer


@functools.cache
def tokenizer():
    return build_tokenizer()


@functools.cache
def splitter():
    return StepSplitter(tokenizer(), "\n")


def solution(problem: Problem, text: str, *, correct: bool, finished: bool = True, name: str = "") -> Solution:
    """A text as a solution in tokens."""
    encode = functools.partial(tokenizer().encode, add_special_tokens=False)
    tokens = [*encode(text), *([tokenizer().eos_token_id] if finished else [])]
    steps = tuple(step.strip() for step in splitter().texts(tokens))
    record = LabelledSolution(problem.prompt, steps, answer=problem.answer, id=name or problem.id)
    index, _ = splitter().split_host(tokens)
    return Solution(record, problem, tuple(encode(problem.prompt)), tuple(tokens), index, finished, correct)


def demonstrations(count: int, task: RegisterChain) -> list[Solution]:
    some = task.problems("test")[:count]
    return [solution(p, p.solution, correct=task.grade(p, p.solution)) for p in some]


def chain(operations: int, **noise: float) -> RegisterChain:
    quiet = {"leap": 0.0, "restate": 0.0, "unneeded": 0.0, "repair": 0.0}
    # Of sums alone: a product with 0 or 5 would hide an error before it.
    world = {"operations": (operations, operations), "operators": "+-", "distractors": (0, 0)}
    return RegisterChain(RegisterChainConfig(**world, **(quiet | noise)))


@dataclasses.dataclass
class Script:
    """A completer whose answers are worked out by `right(prefix, number)`; it counts what it is asked."""

    right: object
    asked: list = dataclasses.field(default_factory=list)
    text: str = "?0"

    def __call__(self, requests):
        found = []
        for request in requests:
            self.asked.append((request.prefix.tokens, request.first, request.count))
            numbers = range(request.first, request.first + request.count)
            found.append([self._one(request.prefix, n) for n in numbers])
        return found

    def _one(self, prefix, number):
        tokens = (*tokenizer().encode(self.text, add_special_tokens=False), tokenizer().eos_token_id)
        return Completion(tokens, True, bool(self.right(prefix, number)))

    @property
    def completions(self):
        return sum(count for *_, count in self.asked)


def text_of(prefix) -> str:
    return tokenizer().decode(prefix.tokens, skip_special_tokens=True)


def run_alone(labelling, complete):
    """One labelling, driven to its end."""
    (found,) = drive([labelling], complete, enough=1)
    return found

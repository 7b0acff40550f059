"""RegisterChain as a task: problems by random access, the grader, the verifier."""

import operator
import random
import zlib
from collections.abc import Sequence
from typing import overload

from stepjax.config.register_chain import REGISTERS, RegisterChainConfig
from stepjax.errors import UserError
from stepjax.tasks.base import Problem, StepRating, TaskEntry
from stepjax.tasks.register_chain.demonstrations import clean_demonstration, noisy_demonstration
from stepjax.tasks.register_chain.parser import parse_step, rate_steps
from stepjax.tasks.register_chain.program import Uniform, evaluate, parse_program, random_statements, render
from stepjax.tasks.register_chain.tokenizer import ALPHABET, build_tokenizer

SPLITS = ("test", "valid", "train")
_SHARE = 16  # one in so many programs belongs to the test split, one to the valid split, the others to train
_MOST_DRAWS = 10_000


class RegisterChain:
    """A small world in which every step of every response can be rated exactly.

    Attributes:
      config: the family of programs.
      alphabet: every character of a prompt or a well-formed response.
    """

    name = "register_chain"
    separator = "\n"
    alphabet = ALPHABET

    def __init__(self, config: RegisterChainConfig | None = None):
        self.config = config or RegisterChainConfig()

    def problems(self, split: str) -> Sequence[Problem]:
        """The split "train", "valid" or "test". Problem `i` depends on (seed, split, i) and the config alone.

        No program of one split occurs in another, not even under other register names.

        Raises:
          UserError: for another split.
        """
        if split not in SPLITS:
            raise UserError(f"register_chain: no split {split!r}; there are train, valid and test")
        return _Problems(self.config, split)

    def grade(self, problem: Problem, response: str) -> bool:
        """Whether the response's last line is the right answer and its only one."""
        lines = [line for line in (line.strip() for line in response.split(self.separator)) if line]
        return sum(line[0] == "?" for line in lines) == 1 and lines[-1] == f"?{problem.answer}"

    def group_answers(self, responses: Sequence[str]) -> list[int]:
        """Which responses give the same answer, for votes: the value of the only answer, a last line; −1 without it."""
        found = []
        for response in responses:
            lines = [line for line in (line.strip() for line in response.split(self.separator)) if line]
            answers = [step for line in lines if (step := parse_step(line)) and step.form == "answer"]
            alone = len(answers) == 1 and sum(line[0] == "?" for line in lines) == 1 and lines[-1][0] == "?"
            found.append(answers[0].value if alone else -1)
        return found

    def rate_steps(self, problem: Problem, steps: Sequence[str]) -> list[StepRating]:
        """A `RegisterRating` a step, rated as `config.rating` says.

        Raises:
          UserError: where the problem's prompt is no program of this modulus.
        """
        program = parse_program(problem.prompt, self.config.modulus)
        return list(rate_steps(program, steps, self.config.rating))

    def clean_solution(self, problem: Problem) -> str:
        """The shortest right response, free of noise."""
        return self.separator.join(clean_demonstration(parse_program(problem.prompt, self.config.modulus)))

    def neutral_steps(self, problem: Problem) -> list[str]:
        """Steps that are true and useless: each literal of the program restated."""
        definitions = parse_program(problem.prompt, self.config.modulus).definitions.values()
        return [f"{s.register}={s.left}" for s in definitions if not s.operator]

    def break_and_fix(self, problem: Problem, steps: Sequence[str]) -> list[str] | None:
        """The steps with the first derivation made wrong and then taken back; None where there is no derivation."""
        for k, text in enumerate(steps):
            step = parse_step(text)
            if step is not None and step.form == "derive":
                right = text.strip()
                wrong = f"{right.rpartition('=')[0]}={(step.value + 1) % self.config.modulus}"
                return [*steps[:k], wrong, f"!{right}", *steps[k + 1 :]]
        return None


TASK = TaskEntry(lambda config: RegisterChain(config.task.register_chain), build_tokenizer)


class _Problems(Sequence[Problem]):
    def __init__(self, config: RegisterChainConfig, split: str):
        self.config = config
        self.split = split

    def __len__(self) -> int:
        return getattr(self.config, f"{self.split}_problems")

    @overload
    def __getitem__(self, index: int) -> Problem: ...
    @overload
    def __getitem__(self, index: slice) -> list[Problem]: ...
    def __getitem__(self, index: int | slice) -> Problem | list[Problem]:
        if isinstance(index, slice):
            return [self._problem(i) for i in range(len(self))[index]]
        return self._problem(range(len(self))[operator.index(index)])

    def _problem(self, index: int) -> Problem:
        config, part = self.config, SPLITS.index(self.split)
        # Of `random`, only seeding by an int and random() are promised to stay the same over Python versions.
        uniform = random.Random((config.seed << 41) | (part << 39) | index).random
        for _ in range(_MOST_DRAWS):
            statements, query = random_statements(config, uniform)
            text = render(statements, query)
            # Rated before the registers get their final names: renaming a program cannot move it to the other split.
            if min(zlib.crc32(text.encode()) % _SHARE, 2) == part:
                break
        else:
            raise UserError("register_chain: too few programs for three splits: allow more values or operations")
        letters = _draw_names(len(statements), uniform, shuffled=config.shuffled_names)
        names = str.maketrans(dict(zip(REGISTERS, letters, strict=False)))
        program = evaluate(statements, query, config.modulus)
        step_limit = None
        if config.step_limit:
            low, high = config.spare_steps
            step_limit = len(program.derived(needed=True)) + 1 + low + int(uniform() * (high - low + 1))
            text = render(statements, query, step_limit)
        if uniform() < config.noisy:
            steps = noisy_demonstration(program, config, uniform)
        else:
            steps = clean_demonstration(program)
        solution = "\n".join(steps).translate(names)
        return Problem(f"{self.split}/{index}", text.translate(names), str(program.answer), solution, step_limit)


def _draw_names(count: int, uniform: Uniform, *, shuffled: bool) -> list[str]:
    """`count` distinct letters, in random order or in the alphabet's."""
    letters = list(REGISTERS)
    if not shuffled:
        return letters[:count]
    return [letters.pop(int(uniform() * len(letters))) for _ in range(count)]

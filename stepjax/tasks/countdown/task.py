"""Countdown as a task: problems by random access, the grader, the verifier."""

import operator
import random
import zlib
from collections.abc import Sequence
from typing import overload

from stepjax.config.countdown import CountdownConfig
from stepjax.config.register_chain import REGISTERS
from stepjax.errors import UserError
from stepjax.tasks.base import Problem, StepRating, TaskEntry
from stepjax.tasks.countdown.demonstrations import clean_demonstration, noisy_demonstration
from stepjax.tasks.countdown.edits import break_and_fix, detour, take_back
from stepjax.tasks.countdown.measures import measure_walks
from stepjax.tasks.countdown.puzzle import Puzzle, parse_puzzle, random_puzzle, rules_of
from stepjax.tasks.countdown.reader import CountdownReader
from stepjax.tasks.register_chain import build_tokenizer
from stepjax.tasks.register_chain.parser import parse_step

SPLITS = ("test", "valid", "train")
_SHARE = 16  # one in this many puzzles belongs to the test split, one to the valid split, the others to train
_MOST_DRAWS = 10_000


class Countdown:
    """A search task, of another kind than RegisterChain, in the same alphabet: nobody says which moves to make.

    All given numbers are to become the target. Each move is checked exactly, and an exact solver knows whether the
    target is still in reach after it.

    Attributes:
      config: the family of puzzles.
    """

    name = "countdown"
    separator = "\n"

    def __init__(self, config: CountdownConfig | None = None, rating: str = "global"):
        """`rating`: as of `CountdownReader`."""
        self.config, self.rating = config or CountdownConfig(), rating

    def problems(self, split: str) -> Sequence[Problem]:
        """The split "train", "valid" or "test". Problem `i` depends on (seed, split, i) and the config alone.

        No puzzle of one split occurs in another, not even in another order or under other names.

        Raises:
          UserError: for another split.
        """
        if split not in SPLITS:
            raise UserError(f"countdown: no split {split!r}; there are train, valid and test")
        return _Problems(self.config, split)

    def grade(self, problem: Problem, response: str) -> bool:
        """Whether the last line is the target, the only answer, and all numbers became it by right moves."""
        lines = _lines(response)
        if not lines or lines[-1] != f"?{problem.answer}" or sum(line[0] == "?" for line in lines) != 1:
            return False
        reader = self._reader(problem, "global")
        return [reader.read(line) for line in lines][-1].correct is True

    def group_answers(self, responses: Sequence[str]) -> list[int]:
        """Which responses give the same answer, for votes: the value of the only answer, a last line; −1 without it."""
        found = []
        for lines in map(_lines, responses):
            step = parse_step(lines[-1]) if lines and sum(line[0] == "?" for line in lines) == 1 else None
            found.append(step.value if step is not None and step.form == "answer" else -1)
        return found

    def rate_steps(self, problem: Problem, steps: Sequence[str]) -> list[StepRating]:
        """A `RegisterRating` per step.

        Raises:
          UserError: where the problem's prompt is not a puzzle of this modulus.
        """
        reader = self.reader(problem)
        return [reader.read(step) for step in steps]

    def reader(self, problem: Problem) -> CountdownReader:
        """What reads a response to the problem, step by step."""
        return self._reader(problem, self.rating)

    def _reader(self, problem: Problem, rating: str) -> CountdownReader:
        rules, dead_end = rules_of(self.config), self.config.dead_end
        return CountdownReader(self._puzzle(problem), rules, dead_end=dead_end, rating=rating)

    def _puzzle(self, problem: Problem) -> Puzzle:
        return parse_puzzle(problem.prompt, self.config.modulus)

    def measures(self, problems: Sequence[Problem], responses: Sequence[Sequence[str]]) -> dict[str, float]:
        """`measure_walks` of the responses' steps."""
        return measure_walks((self.reader(p), steps) for p, steps in zip(problems, responses, strict=True))

    def clean_solution(self, problem: Problem) -> str:
        """A shortest right response, free of noise."""
        return self.separator.join(clean_demonstration(self._puzzle(problem), self.config, random.Random(0).random))

    def neutral_steps(self, problem: Problem) -> list[str]:
        """Steps that are true and useless as long as no number is taken: each number restated."""
        return [f"{name}={value}" for name, value in self._puzzle(problem).numbers.items()]

    def break_and_fix(self, problem: Problem, steps: Sequence[str]) -> list[str] | None:
        """The steps with the first move made wrong, taken back and made; None where there is no move."""
        return break_and_fix(steps, self.config.modulus)

    def take_back(self, problem: Problem, steps: Sequence[str]) -> list[str] | None:
        """The steps with the first right move taken back and made again; None where there is none."""
        return take_back(steps, self.reader(problem))

    def detour(self, problem: Problem, steps: Sequence[str]) -> list[str] | None:
        """The steps with a move first after which the target is out of reach, and back; None where there is none."""
        return detour(steps, self.reader(problem))


TASK = TaskEntry(lambda config: Countdown(config.task.countdown), build_tokenizer)


def _lines(response: str) -> list[str]:
    return [line for line in (line.strip() for line in response.split(Countdown.separator)) if line]


class _Problems(Sequence[Problem]):
    def __init__(self, config: CountdownConfig, split: str):
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
            puzzle = random_puzzle(config, uniform, REGISTERS)
            # Rated by what it is: neither its order nor its names can move it to the other split.
            same = f"{sorted(puzzle.numbers.values())} {puzzle.target}"
            if min(zlib.crc32(same.encode()) % _SHARE, 2) == part:
                break
        else:
            raise UserError("countdown: too few puzzles for three splits: allow more values or numbers")
        letters = list(REGISTERS)
        if config.shuffled_names:
            names = [letters.pop(int(uniform() * len(letters))) for _ in puzzle.numbers]
            puzzle = Puzzle(dict(zip(names, puzzle.numbers.values(), strict=True)), puzzle.target)
        write = noisy_demonstration if uniform() < config.noisy else clean_demonstration
        solution = "\n".join(write(puzzle, config, uniform))
        return Problem(f"{self.split}/{index}", str(puzzle), str(puzzle.target), solution)

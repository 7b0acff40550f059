"""Countdown as a task: problems by random access, the grader, the verifier."""

import functools
import random
from collections.abc import Sequence

from stepjax.config.countdown import CountdownConfig
from stepjax.config.register_chain import REGISTERS
from stepjax.errors import UserError
from stepjax.tasks.base import Problem, StepRating, TaskEntry
from stepjax.tasks.countdown.demonstrations import clean_demonstration, noisy_demonstration
from stepjax.tasks.countdown.edits import break_and_fix, detour, take_back
from stepjax.tasks.countdown.measures import measure_walks
from stepjax.tasks.countdown.puzzle import Puzzle, parse_puzzle, random_puzzle, rules_of
from stepjax.tasks.countdown.reader import CountdownReader
from stepjax.tasks.drawn import draw_for, drawn_problems, draws_of
from stepjax.tasks.register_chain import build_tokenizer
from stepjax.tasks.register_chain.parser import lines_of, only_answer


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
        return drawn_problems(self.name, self.config, split, functools.partial(self._problem, split))

    def grade(self, problem: Problem, response: str) -> bool:
        """Whether the last line is the target, the only answer, and all numbers became it by right moves."""
        lines = lines_of(response)
        if not lines or lines[-1] != f"?{problem.answer}" or sum(line[0] == "?" for line in lines) != 1:
            return False
        reader = self._reader(problem, "global")
        return [reader.read(line) for line in lines][-1].correct is True

    def group_answers(self, responses: Sequence[str]) -> list[int]:
        """Which responses give the same answer, for votes: the value of the only answer, a last line; −1 without it."""
        return [only_answer(lines_of(response)) for response in responses]

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

    def _problem(self, split: str, index: int) -> Problem:
        config, uniform = self.config, draws_of(self.config.seed, split, index)
        # Told apart by what it is: neither its order nor its names can move it to the other split.
        puzzle = draw_for(
            split,
            lambda: random_puzzle(config, uniform, REGISTERS),
            lambda puzzle: f"{sorted(puzzle.numbers.values())} {puzzle.target}",
        )
        if puzzle is None:
            raise UserError("countdown: too few puzzles for three splits: allow more values or numbers")
        letters = list(REGISTERS)
        if config.shuffled_names:
            names = [letters.pop(int(uniform() * len(letters))) for _ in puzzle.numbers]
            puzzle = Puzzle(dict(zip(names, puzzle.numbers.values(), strict=True)), puzzle.target)
        write = noisy_demonstration if uniform() < config.noisy else clean_demonstration
        solution = "\n".join(write(puzzle, config, uniform))
        return Problem(f"{split}/{index}", str(puzzle), str(puzzle.target), solution)


TASK = TaskEntry(lambda config: Countdown(config.task.countdown), build_tokenizer)

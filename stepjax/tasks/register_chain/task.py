"""RegisterChain as a task: problems by random access, the grader, the verifier."""

import functools
from collections.abc import Sequence
from itertools import accumulate

from stepjax.config.register_chain import REGISTERS, RegisterChainConfig
from stepjax.errors import UserError
from stepjax.tasks.base import Problem, StepRating, TaskEntry
from stepjax.tasks.drawn import Uniform, draw_for, drawn_problems, draws_of
from stepjax.tasks.register_chain.author import Demonstration
from stepjax.tasks.register_chain.demonstrations import clean_demonstration, noisy_demonstration
from stepjax.tasks.register_chain.edits import break_and_fix, detour, take_back
from stepjax.tasks.register_chain.forks import forked_statements
from stepjax.tasks.register_chain.measures import measure_repairs
from stepjax.tasks.register_chain.parser import Reader, lines_of, only_answer
from stepjax.tasks.register_chain.program import Statement, evaluate, parse_program, random_statements, render
from stepjax.tasks.register_chain.tokenizer import ALPHABET, build_tokenizer
from stepjax.tasks.register_chain.walk import Walker


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
        return drawn_problems(self.name, self.config, split, functools.partial(self._problem, split))

    def grade(self, problem: Problem, response: str) -> bool:
        """Whether the response's last line is the right answer and its only one; with forks, given at the query."""
        lines = lines_of(response)
        right = sum(line[0] == "?" for line in lines) == 1 and lines[-1] == f"?{problem.answer}"
        return right and (not self.config.forked or self.rate_steps(problem, lines)[-1].kind == "answer")

    def group_answers(self, responses: Sequence[str]) -> list[int]:
        """Which responses give the same answer, for votes: the value of the only answer, a last line; −1 without it."""
        return [only_answer(lines_of(response)) for response in responses]

    def rate_steps(self, problem: Problem, steps: Sequence[str]) -> list[StepRating]:
        """A `RegisterRating` per step, by `config.rating`.

        Raises:
          UserError: where the problem's prompt is not a program of this modulus.
        """
        reader = self.reader(problem)
        return [reader.read(step) for step in steps]

    def reader(self, problem: Problem) -> Reader:
        """What reads a response to the problem, step by step."""
        program, config = parse_program(problem.prompt, self.config.modulus), self.config
        if config.forked:
            return Walker(program, config.rating, config.dead_end, repair_rating=config.repair_rating)
        return Reader(program, config.rating, back=config.retry > 0, repair_rating=config.repair_rating)

    def measures(self, problems: Sequence[Problem], responses: Sequence[Sequence[str]]) -> dict[str, float]:
        """`measure_repairs` of the responses' steps."""
        readers = [self.reader(problem) for problem in problems]
        return measure_repairs(zip(readers, responses, strict=True), walks=self.config.forked)

    def clean_solution(self, problem: Problem) -> str:
        """The shortest right response, free of noise."""
        return self.separator.join(clean_demonstration(parse_program(problem.prompt, self.config.modulus)).lines)

    def neutral_steps(self, problem: Problem) -> list[str]:
        """Steps that are true and useless: each literal of the program restated."""
        definitions = parse_program(problem.prompt, self.config.modulus).definitions.values()
        return [f"{s.register}={s.left}" for s in definitions if not s.operator]

    def break_and_fix(self, problem: Problem, steps: Sequence[str]) -> list[str] | None:
        """The steps with the first derivation made wrong and then corrected; None where there is no derivation."""
        return break_and_fix(steps, self.config.modulus)

    def take_back(self, problem: Problem, steps: Sequence[str]) -> list[str] | None:
        """The steps with the first derivation taken back, though right, and done again; None where there is none."""
        return take_back(steps, self.reader(problem))

    def detour(self, problem: Problem, steps: Sequence[str]) -> list[str] | None:
        """The steps with the first dead end entered and left that they do not enter; None where there is none."""
        reader = self.reader(problem)
        return detour(steps, reader) if isinstance(reader, Walker) else None

    def _problem(self, split: str, index: int) -> Problem:
        config = self.config
        uniform = draws_of(config.seed, split, index)

        def draw() -> tuple[list[Statement], str]:
            return (forked_statements if config.forked else random_statements)(config, uniform)

        # Told apart before the registers get their final names: renaming a program cannot move it to the other split.
        found = draw_for(split, draw, lambda drawn: render(*drawn))
        if found is None:
            raise UserError("register_chain: too few programs for three splits: allow more values or operations")
        statements, query = found
        text = render(statements, query)
        letters = _draw_names(len(statements), uniform, shuffled=config.shuffled_names)
        names = str.maketrans(dict(zip(REGISTERS, letters, strict=False)))
        program = evaluate(statements, query, config.modulus)
        step_limit = None
        if config.step_limit:
            low, high = config.spare_steps
            step_limit = len(program.derived(needed=True)) + 1 + low + int(uniform() * (high - low + 1))
            text = render(statements, query, step_limit)
        if uniform() < config.noisy:
            written = noisy_demonstration(program, config, uniform)
        else:
            written = clean_demonstration(program)
        return Problem(
            f"{split}/{index}",
            text.translate(names),
            str(program.answer),
            "\n".join(written.lines).translate(names),
            step_limit,
            unlearned=_spans(written) if config.retry_masked else (),
        )


TASK = TaskEntry(lambda config: RegisterChain(config.task.register_chain), build_tokenizer)


def _spans(written: Demonstration) -> tuple[tuple[int, int], ...]:
    """Where the wrong tries are in the solution's text, each with its line end."""
    starts = [0, *accumulate(len(line) + 1 for line in written.lines)]
    return tuple((starts[number], starts[number + 1]) for number in written.tries)


def _draw_names(count: int, uniform: Uniform, *, shuffled: bool) -> list[str]:
    """`count` distinct letters, in random order or in the alphabet's."""
    letters = list(REGISTERS)
    if not shuffled:
        return letters[:count]
    return [letters.pop(int(uniform() * len(letters))) for _ in range(count)]

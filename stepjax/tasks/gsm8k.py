"""GSM8K: grade-school word problems whose steps carry calculator notes, `<<48/2=24>>` [Cobbe 2021]."""

import re
from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property
from pathlib import Path

from stepjax.answers.arithmetic import NUMBER, ExpressionError, changes_nothing, evaluate
from stepjax.answers.grading import final_answer
from stepjax.config import Config
from stepjax.data.jsonl import read_jsonl
from stepjax.errors import UserError
from stepjax.tasks.base import Problem, StepRating, TaskEntry
from stepjax.tasks.graders import AnswerGrader, GradesFinalAnswers, MarkedGrader, make_grader

_NOTE = re.compile(r"<<([^<>]*)>>")  # no "<" inside: a run of unclosed marks is then scanned only once
_VALUE = re.compile(rf"\s*-?(?:{NUMBER})(?:/(?:{NUMBER})|%)?\s*")
_DECIMAL = re.compile(r"-?[0-9,]*\.([0-9]+)")
_SOURCE = "https://github.com/openai/grade-school-math (grade_school_math/data)"


def check_calculations(step: str) -> int:
    """+1 where every calculator note of the step holds, -1 where one does not, 0 where the step has none.

    A note holds where its value is the exact result, or the result rounded or cut to the decimals written, of which
    there must be at least one, and two significant digits: 10/3 may be 3.33 or 3.3, not 3; 2/3 may be 0.67 or 0.66,
    not 0.7; 1/300 may not be 0.00. A note that is unclosed, unopened, not of the form expr=value, or that
    `stepjax.answers.arithmetic` cannot evaluate does not hold.
    """
    notes = _NOTE.findall(step)
    rest = _NOTE.sub("", step)
    if "<<" in rest or ">>" in rest:
        return -1
    if not notes:
        return 0
    return 1 if all(_holds(note) for note in notes) else -1


def trivial_calculations(step: str) -> tuple[int, int]:
    """Number of trivial calculator notes of a step (`<<1=1>>`, `<<5*1=5>>`, `<<3+0=3>>`), and of all its notes.

    A policy that is rewarded for notes that hold can always write such ones. An unreadable note is not trivial.
    """
    notes = _NOTE.findall(step)
    return sum(map(_trivial, notes)), len(notes)


def worked_calculations(
    prompts: Sequence[str], responses: Sequence[str], steps: Sequence[Sequence[str]]
) -> list[list[float]]:
    """Rewards of steps for a stream of signal "function": 1 where a step calculates something new, else 0.

    That is a step whose notes hold and are neither trivial nor repeated from an earlier step of the response.
    """
    return [_worked(of_one) for of_one in steps]


def _worked(steps: Sequence[str]) -> list[float]:
    seen: set[str] = set()
    rewards = []
    for step in steps:
        notes = ["".join(note.split()) for note in _NOTE.findall(step)]
        new = not seen & {*notes}
        rewards.append(float(new and check_calculations(step) > 0 and not any(map(_trivial, notes))))
        seen.update(notes)
    return rewards


def _trivial(note: str) -> bool:
    try:
        return changes_nothing(note.partition("=")[0])
    except ExpressionError:
        return False


def _holds(note: str) -> bool:
    expression, _, value = note.partition("=")
    try:
        exact = evaluate(expression)
        # A value is a number or a fraction: an expression there would make `<<2+3=2+3>>` hold.
        return _VALUE.fullmatch(value) is not None and (evaluate(value) == exact or _shortens(value.strip(), exact))
    except ExpressionError:
        return False


def _shortens(value: str, exact: Fraction) -> bool:
    """Whether a decimal is the exact result, rounded to nearest or cut."""
    decimal = _DECIMAL.fullmatch(value)
    if decimal is None or len(re.sub(r"\D", "", value).lstrip("0")) < 2:
        return False
    unit = Fraction(1, 10 ** len(decimal[1]))
    written = evaluate(value)
    cut = int(exact / unit) * unit  # towards zero
    return written == cut or 2 * abs(written - exact) <= unit


class GSM8K(GradesFinalAnswers):
    """The public problems, one step per line. Nothing may be tuned on "test": "valid" is held out of the training file.

    A prompt is the question and a newline; a solution keeps its notes and ends in a line `#### 72`.
    """

    name = "gsm8k"
    separator = "\n"

    def __init__(
        self, path: str | Path, *, valid_problems: int = 512, most_steps: int = 0, grader: AnswerGrader | None = None
    ):
        """Takes a folder with train.jsonl and test.jsonl.

        Args:
          path: the folder. A file is read when one of its splits is first asked for.
          valid_problems: length of the split "valid", the training file's last problems; at most an eighth of them.
          most_steps: problems whose published solution has more steps, not counting the answer's line, are left out of
            all splits; 0: none are.
          grader: decides whether a final answer is right; None: the library.

        Raises:
          UserError: where the folder or one of the files is missing.
        """
        self.path = Path(path)
        self.grader = grader or MarkedGrader()
        self.valid_problems = valid_problems
        self.most_steps = most_steps
        if valid_problems < 0:
            raise UserError(f"gsm8k: valid_problems must be 0 or more, not {valid_problems}")
        for name in ("train.jsonl", "test.jsonl"):
            if not (self.path / name).is_file():
                raise UserError(
                    f"gsm8k: no file {self.path / name}; the folder must hold train.jsonl and test.jsonl, published at "
                    f"{_SOURCE}"
                )

    def problems(self, split: str) -> Sequence[Problem]:
        """The split "train" (without the held-out end), "valid" or "test".

        Raises:
          UserError: for another split, or a row that is not one of GSM8K.
        """
        if split == "test":
            return self._test
        if split not in ("train", "valid"):
            raise UserError(f"gsm8k: no split {split!r}; there are train, valid and test")
        border = len(self._train) - min(self.valid_problems, len(self._train) // 8)
        return self._train[:border] if split == "train" else self._train[border:]

    def rate_steps(self, problem: Problem, steps: Sequence[str]) -> list[StepRating]:
        """Rates each step by its notes alone: a "calculation" +1 or -1, "text" and the "answer" line 0.

        Notes that hold do not make a step right, so `correct` is None throughout.
        """
        return [_rate(step) for step in steps]

    def files(self) -> dict[str, Path]:
        return {str(path): path for path in (self.path / "train.jsonl", self.path / "test.jsonl")}

    @cached_property
    def _train(self) -> list[Problem]:
        return self._short(self.path / "train.jsonl", "train")

    @cached_property
    def _test(self) -> list[Problem]:
        return self._short(self.path / "test.jsonl", "test")

    def _short(self, path: Path, split: str) -> list[Problem]:
        """The problems of a file of at most `most_steps` steps, with the numbers that they have in it."""
        problems = _read(path, split)
        short = [p for p in problems if p.solution and p.solution.count("\n") <= self.most_steps]
        if self.most_steps and not short:
            raise UserError(f"config.task.gsm8k_steps={self.most_steps}: {path} has no solution as short as that")
        return short if self.most_steps else problems


def _task(config: Config) -> GSM8K:
    options = config.task
    return GSM8K(options.gsm8k, most_steps=options.gsm8k_steps, grader=make_grader(options))


TASK = TaskEntry(_task, final_answers=True)


def _rate(step: str) -> StepRating:
    if step.lstrip().startswith("####"):
        return StepRating(0, None, "answer")
    rating = check_calculations(step)
    return StepRating(rating, None, "calculation" if rating else "text")


def _read(path: Path, split: str) -> list[Problem]:
    problems: list[Problem] = []
    for line, row in read_jsonl(path, required={"question": str, "answer": str}):
        answer = final_answer(row["answer"])
        if answer is None:
            raise UserError(f"{path}:{line}: field 'answer' has no line `#### …` with the final answer")
        steps = [step.strip() for step in row["answer"].split("\n")]
        solution = "\n".join(step for step in steps if step)
        number = answer.text.replace(",", "")
        problems.append(Problem(f"{split}/{len(problems)}", row["question"].strip() + "\n", number, solution))
    if not problems:
        raise UserError(f"{path}: the file has no problems")
    return problems

"""The exact verifier: reads a response line by line and decides whether each step follows, is true, and helps.

Steps, one a line:
  b=7+5=2    derive b by the program's operation, the operands being shown by value
  b=2        restate a literal or an already stated value; else a leap (a value without its operation)
  !b=7+5=2   take back the latest stated value of b and redo it
  !b         take it back, to derive b again or not; a step only where the reader is asked for it
  ?2         answer; nothing may follow
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from stepjax.config.register_chain import RATINGS
from stepjax.errors import UserError
from stepjax.tasks.base import StepRating
from stepjax.tasks.register_chain.program import NUMBER, Operand, Program, apply, value_of

_STEP = re.compile(rf"(!?)([a-z])=({NUMBER})([-+*])({NUMBER})=({NUMBER})|([a-z])=({NUMBER})|\?({NUMBER})")
_BACK = re.compile(r"!([a-z])")


class Step(NamedTuple):
    """A parsed line. `form` is derive, repair, back, restate or answer; fields that a form lacks are "" or 0."""

    form: str
    register: str
    left: int
    operator: str
    right: int
    value: int


@dataclass(frozen=True)
class RegisterRating(StepRating):
    """A step's rating with both notions of right, of which the rating uses one.

    Attributes:
      local: it follows from what was last stated: the operands shown are the latest stated values (or the program's
        literals), operator and register are the program's, the arithmetic holds. An answer repeats a derived value.
      true: it is so in the real program: the value is the register's, and so are the operands shown.
    """

    local: bool = False
    true: bool = False


REPAIRS = ("repair", "back")
"""Kinds of steps that `repair_rating` is about."""

_MALFORMED = RegisterRating(-1, False, "malformed")
_AFTER = RegisterRating(-1, False, "after")


def parse_step(text: str, *, back: bool = False) -> Step | None:
    """Reads one line (white space around it does not matter); None where it is not a step. Takes any text.

    With `back`, a line such as `!b` is a step, too.
    """
    match = _STEP.fullmatch(text.strip())
    if match is None:
        found = _BACK.fullmatch(text.strip()) if back else None
        return None if found is None else Step("back", found[1], 0, "", 0, 0)
    bang, register, left, operator, right, value, stated, stated_value, answer = match.groups()
    if register:
        return Step("repair" if bang else "derive", register, int(left), operator, int(right), int(value))
    if stated:
        return Step("restate", stated, 0, "", 0, int(stated_value))
    return Step("answer", "", 0, "", 0, int(answer))


def lines_of(response: str) -> list[str]:
    """The response's lines, without white space around them and empty ones."""
    return [line for line in (line.strip() for line in response.split("\n")) if line]


def only_answer(lines: Sequence[str]) -> int:
    """The value of the only answer, which is the last line; −1 where there is none."""
    step = parse_step(lines[-1]) if sum(line[0] == "?" for line in lines) == 1 else None
    return step.value if step is not None and step.form == "answer" else -1


def rate_steps(
    program: Program, steps: Sequence[str], rating: str = "global", *, back: bool = False
) -> list[RegisterRating]:
    """Rates a response's steps in order, one rating a step, whatever the text.

    A step is bad (-1) where it is not right in the sense of `rating` ("global": `true`; "local": `local`), and where it
    is a leap, malformed, or after the answer. It is good (+1) where it derives a needed register anew, puts a wrong
    value right, takes one back (with `back`), or answers; else neutral (0). `correct` is False exactly for the bad
    ones.

    Raises:
      UserError: for another `rating`.
    """
    reader = Reader(program, rating, back=back)
    return [reader.read(step) for step in steps]


class Reader:
    """What a response has stated so far. Literals belong to the program: no step can change them.

    Attributes:
      stated: the latest stated value of each derived register, without those that were taken back.
      grounded: those of them whose latest value came with its operation.
      wrong: those of them whose latest statement was rated bad.
      withdrawn: values that were right and yet taken back: deriving them again is no progress.
    """

    def __init__(self, program: Program, rating: str = "global", *, back: bool = False, repair_rating: str = "good"):
        """`back`: lines such as `!b` are steps; `repair_rating`: what putting right and taking back is rated. UserError
        for another `rating`."""
        if rating not in RATINGS:
            raise UserError(f"register_chain: rating must be one of {', '.join(RATINGS)}, not {rating!r}")
        self.program = program
        self.rating = rating
        self.back = back
        self.unpaid = REPAIRS if repair_rating == "neutral" else ()
        self.stated: dict[str, int] = {}
        self.grounded: set[str] = set()
        self.wrong: set[str] = set()
        self.withdrawn: dict[str, int] = {}
        self.answered = False

    def read(self, text: str) -> RegisterRating:
        """The rating of the next step."""
        if self.answered:
            return _AFTER
        step = parse_step(text, back=self.back)
        if step is None:
            return _MALFORMED
        if step.form == "answer":
            return self._answer(step)
        if step.form == "back":
            return self._back(step.register)
        return self._restate(step) if step.form == "restate" else self._derive(step)

    def _derive(self, step: Step) -> RegisterRating:
        program, register, value = self.program, step.register, step.value
        statement = program.definitions.get(register)
        before, grounded = self.stated.get(register), register in self.grounded
        local = true = leap = False
        if statement is not None and statement.operator:  # a derived register of the program
            if statement.operator == step.operator:
                latest = (self.latest(statement.left), self.latest(statement.right))
                real = (value_of(statement.left, program.values), value_of(statement.right, program.values))
                holds = apply(step.operator, step.left, step.right, program.modulus) == value
                leap = None in latest  # rests on a register whose own operation was never shown
                local = holds and latest == (step.left, step.right)
                true = holds and real == (step.left, step.right)
            self.stated[register] = value
            (self.grounded.discard if leap else self.grounded.add)(register)
        if step.form == "repair":
            if before is None:  # there is nothing to take back
                local = true = False
            advances, kind = before != value, "repair"
        elif (before == value and grounded) or self.withdrawn.get(register) == value:
            advances, kind = False, "repeat"
        else:
            advances = register in program.needed
            kind = "derive" if advances or statement is None else "unneeded"
        found = self._rate("leap" if leap else kind, local, true, advances)
        if register in self.stated:
            (self.wrong.discard if found.correct else self.wrong.add)(register)
        return found

    def _back(self, register: str) -> RegisterRating:
        if register not in self.stated:  # there is nothing to take back
            return self._rate("back", False, False, advances=False)
        needless = register not in self.wrong
        self._take_back(register)
        return self._rate("needless" if needless else "back", True, True, advances=not needless)

    def _take_back(self, register: str) -> None:
        """The register is as if never stated; a right value is remembered."""
        value = self.stated.pop(register)
        if register not in self.wrong:
            self.withdrawn[register] = value
        self.grounded.discard(register)
        self.wrong.discard(register)

    def _restate(self, step: Step) -> RegisterRating:
        program, register, value = self.program, step.register, step.value
        statement = program.definitions.get(register)
        latest = self.latest(register)
        literal = statement is not None and not statement.operator
        true = program.values.get(register) == value
        if literal or latest == value:
            return self._rate("restate", latest == value, true, advances=False)
        if statement is not None:
            self.stated[register] = value
            self.grounded.discard(register)
            self.wrong.add(register)
        return self._rate("leap", False, true, advances=False)

    def _answer(self, step: Step) -> RegisterRating:
        program, query = self.program, self.program.query
        self.answered = True
        literal = not program.definitions[query].operator
        supported = (literal or query in self.grounded) and self.latest(query) == step.value
        return self._rate("answer" if supported else "leap", supported, step.value == program.answer, advances=True)

    def latest(self, operand: Operand) -> int | None:
        """The reader's current value of an operand; None for a derived register that was never stated."""
        if not isinstance(operand, str):
            return operand
        statement = self.program.definitions.get(operand)
        if statement is not None and not statement.operator:
            return self.program.values[operand]
        return self.stated.get(operand)

    def _rate(self, kind: str, local: bool, true: bool, advances: bool) -> RegisterRating:
        correct = (true if self.rating == "global" else local) and kind != "leap"
        rating = 1 if advances and kind not in self.unpaid else 0
        return RegisterRating(rating if correct else -1, correct, kind, local, true)

"""The author of a demonstration: the lines it has written, and the values that it goes on from."""

from dataclasses import dataclass, field

from stepjax.tasks.drawn import Uniform
from stepjax.tasks.register_chain.program import Program, Statement, apply, value_of


@dataclass
class Demonstration:
    """The lines of a response.

    Attributes:
      tries: numbers of the lines that are wrong tries, each taken back by the next line.
    """

    lines: list[str] = field(default_factory=list)
    tries: list[int] = field(default_factory=list)


class Author:
    """The lines so far, and the values the author uses."""

    def __init__(self, program: Program):
        self.program = program
        self.lines: list[str] = []
        self.tries: list[int] = []
        self.ends_at = program.query  # whose value is the answer
        self.held = {s.register: program.values[s.register] for s in program.definitions.values() if not s.operator}
        self.stated = list(self.held)  # registers whose value the reader knows

    @property
    def head(self) -> str:
        """The register derived last, of those not taken back; "" where there is none."""
        return next((r for r in reversed(self.stated) if self.program.definitions[r].operator), "")

    def knows(self, statement: Statement) -> bool:
        """Whether both operands have been stated, so that the derivation would be no leap."""
        return all(not isinstance(o, str) or o in self.stated for o in (statement.left, statement.right))

    def work_out(self, statement: Statement) -> int:
        """The value that follows from the author's operands."""
        left, right = value_of(statement.left, self.held), value_of(statement.right, self.held)
        return apply(statement.operator, left, right, self.program.modulus)

    def write(self, statement: Statement, value: int, mark: str = "") -> None:
        name, operator, left, right = statement
        x, y = value_of(left, self.held), value_of(right, self.held)
        self.lines.append(f"{mark}{name}={x}{operator}{y}={value}")
        self.held[name] = value
        if not mark:
            self.stated.append(name)

    def restate(self, register: str) -> None:
        self.lines.append(f"{register}={self.held[register]}")

    def leap(self, statement: Statement, *, aloud: bool) -> None:
        """States a value without its operation, or only holds it."""
        self.held[statement.register] = self.work_out(statement)
        if aloud:
            self.restate(statement.register)
            self.stated.append(statement.register)

    def discard(self, statement: Statement, value: int, *known: int) -> None:
        """States a value, of operands that are `known` or else the author's, and takes it back at once."""
        name, operator, left, right = statement
        x, y = known or (value_of(left, self.held), value_of(right, self.held))
        self.tries.append(len(self.lines))
        self.lines += [f"{name}={x}{operator}{y}={value}", f"!{name}"]

    def guess(self, statement: Statement, uniform: Uniform) -> None:
        """Discards a register that cannot be computed yet, of made-up operands."""
        modulus = self.program.modulus
        x, y = (
            int(uniform() * modulus) if isinstance(o, str) and o not in self.stated else value_of(o, self.held)
            for o in (statement.left, statement.right)
        )
        self.discard(statement, apply(statement.operator, x, y, modulus), x, y)

    def redo(self, statement: Statement) -> None:
        """Takes a wrong value back, then every stated value that no longer follows."""
        changed: set[object] = set()
        for later in self.program.definitions.values():
            if later.register not in self.held or (later != statement and not changed & {later.left, later.right}):
                continue
            value = self.work_out(later)
            if value == self.held[later.register]:
                continue  # put right already, or right by luck
            changed.add(later.register)
            if later.register in self.stated:
                self.write(later, value, mark="!")
            else:
                self.held[later.register] = value

    def go_back(self, register: str) -> None:
        """Takes back a register of the walk and all after it."""
        self.lines.append(f"!{register}")
        at = self.stated.index(register)
        for later in self.stated[at:]:
            self.held.pop(later, None)
        del self.stated[at:]

    def answer(self) -> Demonstration:
        return Demonstration([*self.lines, f"?{self.held[self.ends_at]}"], self.tries)

"""Demonstrations: a program evaluated step by step, cleanly or with the mistakes that a learner must see.

A noisy author goes on from what was stated: an error that is not repaired is carried into the answer.
"""

from stepjax.config.register_chain import RegisterChainConfig
from stepjax.tasks.register_chain.program import Program, Statement, Uniform, apply, value_of


def clean_demonstration(program: Program) -> list[str]:
    """The shortest right response: each needed register derived once, then the answer."""
    author = _Author(program)
    for statement in program.derived(needed=True):
        author.write(statement, author.work_out(statement))
    return author.answer()


def noisy_demonstration(program: Program, config: RegisterChainConfig, uniform: Uniform) -> list[str]:
    """A response with the noise of `config`, one step per item, drawn by `uniform`."""
    author = _Author(program)
    repair_later: list[Statement] = []

    def derive(statement: Statement) -> None:
        value = author.work_out(statement)
        if uniform() >= config.false:
            author.write(statement, value)
            return
        author.write(statement, (value + 1 + int(uniform() * (program.modulus - 1))) % program.modulus)
        if uniform() < config.repair:
            if uniform() < 0.5:
                author.redo(statement)
            else:
                repair_later.append(statement)

    dead_ends = program.derived(needed=False)
    for statement in program.derived(needed=True):
        if uniform() < config.restate:
            author.restate(author.stated[int(uniform() * len(author.stated))])
        if dead_ends and uniform() < config.unneeded:
            open_ends = [s for s in dead_ends if author.knows(s)]
            if open_ends:
                dead_end = open_ends[int(uniform() * len(open_ends))]
                dead_ends.remove(dead_end)
                derive(dead_end)
        if uniform() < config.leap:
            author.leap(statement, aloud=uniform() < 0.5)
        else:
            derive(statement)
    for statement in repair_later:
        author.redo(statement)
    return author.answer()


class _Author:
    """The lines so far, and the values the author uses."""

    def __init__(self, program: Program):
        self.program = program
        self.lines: list[str] = []
        self.held = {s.register: program.values[s.register] for s in program.definitions.values() if not s.operator}
        self.stated = list(self.held)  # registers whose value the reader knows

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

    def answer(self) -> list[str]:
        return [*self.lines, f"?{self.held[self.program.query]}"]

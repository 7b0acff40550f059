"""Programs with forks: a response walks along the registers, may enter a chain that leads nowhere, and must go back.

A derivation starts from the register derived last (at first: from a literal) as its left operand; its right operand is
a number, a literal or a register on the path. From some registers of the path several others can be derived: all of
these moves are right by themselves, but only one goes on to the query. From the others there is no way to it except by
a line that goes back.

  b=7+5=2    go from a to b
  !b         go back to before b; the path's registers from b on are as if never stated
"""

import dataclasses

from stepjax.errors import UserError
from stepjax.tasks.register_chain.parser import Reader, RegisterRating, Step
from stepjax.tasks.register_chain.program import Program, Statement

_RATINGS = {"good": 1, "neutral": 0, "bad": -1}


def parent_of(program: Program, statement: Statement) -> str:
    """The register that a derivation starts from; "" where that is a literal or a number: the beginning."""
    left = program.definitions.get(str(statement.left))
    return left.register if left is not None and left.operator else ""


def children_of(program: Program, register: str) -> list[Statement]:
    """The derivations that start from a register ("": from the beginning), in the program's order."""
    return [s for s in program.definitions.values() if s.operator and parent_of(program, s) == register]


def way_to_query(program: Program) -> list[Statement]:
    """The derivations from the beginning to the query, in order.

    Raises:
      UserError: a right operand is a derived register that is not on the way, so that the query cannot be reached.
    """
    way: list[Statement] = []
    register = program.query
    while (statement := program.definitions.get(register)) is not None and statement.operator:
        way.insert(0, statement)
        register = parent_of(program, statement)
    known: set[str] = set()
    for statement in way:
        right = program.definitions.get(str(statement.right))
        if right is not None and right.operator and right.register not in known:
            raise UserError(f"register_chain: no way to {program.query} in the prompt: {statement} needs {right}")
        known.add(statement.register)
    return way


def dead_ends(program: Program) -> list[Statement]:
    """The derivations by which a walk leaves the way to the query."""
    way = {statement.register for statement in way_to_query(program)}
    derived = [s for s in program.definitions.values() if s.operator and s.register not in way]
    return [s for s in derived if parent_of(program, s) in way | {""}]


class Walker(Reader):
    """The reader of walks: `stated` are the registers on the path, in order, and each ends where the next begins.

    Attributes:
      tried: registers of dead ends that were taken back.
    """

    def __init__(
        self, program: Program, rating: str = "global", dead_end: str = "neutral", *, repair_rating: str = "good"
    ):
        """`dead_end`: how a right step into a dead end is rated; `repair_rating`: as of `Reader`.

        UserError where the query cannot be reached.
        """
        super().__init__(program, rating, back=True, repair_rating=repair_rating)
        self.way = frozenset(statement.register for statement in way_to_query(program))
        self.dead_end = _RATINGS[dead_end]
        self.tried: set[str] = set()

    @property
    def head(self) -> str:
        """The register where the walk is; "" at its beginning."""
        return next(reversed(self.stated), "")

    def _derive(self, step: Step) -> RegisterRating:
        register = step.register
        statement = self.program.definitions.get(register)
        if statement is None or not statement.operator:
            return super()._derive(step)
        if step.form == "repair":
            # What is not on the path cannot be put right, and must not become the place where the walk goes on.
            return super()._derive(step) if register in self.stated else self._rate("repair", False, False, False)
        if register in self.stated:
            if self.stated[register] == step.value:
                return super()._derive(step)
            return self._rate("jump", False, False, advances=False)
        if parent_of(self.program, statement) != self.head or self.latest(statement.right) is None:
            return self._rate("jump", False, False, advances=False)
        found = super()._derive(step)
        if register in self.way:
            return found
        rating = (-1 if register in self.tried else self.dead_end) if found.correct else -1
        return dataclasses.replace(found, rating=rating, correct=rating >= 0, kind="dead end")

    def _back(self, register: str) -> RegisterRating:
        if register not in self.stated:
            return super()._back(register)
        path = list(self.stated)
        needless = register in self.way and register not in self.wrong
        for later in reversed(path[path.index(register) :]):
            if later not in self.way:
                self.tried.add(later)
            self._take_back(later)
        return self._rate("needless" if needless else "back", True, True, advances=not needless)

    def _restate(self, step: Step) -> RegisterRating:
        if self.latest(step.register) == step.value or self._is_literal(step.register):
            return super()._restate(step)
        true = self.program.values.get(step.register) == step.value
        return self._rate("leap", False, true, advances=False)  # it moves nothing

    def _answer(self, step: Step) -> RegisterRating:
        if self.way and self.head != self.program.query:
            self.answered = True
            return self._rate("leap", False, step.value == self.program.answer, advances=True)
        return super()._answer(step)

    def _is_literal(self, register: str) -> bool:
        statement = self.program.definitions.get(register)
        return statement is not None and not statement.operator

"""Register programs: definition, text, values, and random ones.

A program is `a=7;b=a+5;c=b*3;?c`: literals, derived registers that are defined before they are used, and a query. All
values are modulo m. A dead end (a register the query does not rest on) is as easy to write down as any other.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from stepjax.config.register_chain import REGISTERS, RegisterChainConfig
from stepjax.errors import UserError
from stepjax.tasks.drawn import Uniform

Operand = str | int  # a register's name or a number

NUMBER = "(?:0|[1-9][0-9]?)"  # two digits hold every value modulo 100; a bound also keeps int() cheap on hostile text
_STATEMENT = re.compile(rf"([a-z])=(?:({NUMBER})|([a-z]|{NUMBER})([-+*])([a-z]|{NUMBER}))")

_LIMIT = re.compile(r"![1-9][0-9]?$")


class Statement(NamedTuple):
    """`register = left operator right`; a literal has the operator "" and its value in `left`."""

    register: str
    operator: str
    left: Operand
    right: Operand

    def __str__(self) -> str:
        return f"{self.register}={self.left}{self.operator}{self.right if self.operator else ''}"


@dataclass(frozen=True)
class Program:
    """A program with what follows from it.

    Attributes:
      definitions: each register's statement, in the program's order.
      query: the register asked for.
      modulus: m; every value lies in [0, m).
      values: the real value of each register.
      needed: the registers that the query rests on, itself included.
    """

    definitions: dict[str, Statement]
    query: str
    modulus: int
    values: dict[str, int]
    needed: frozenset[str]

    @property
    def answer(self) -> int:
        """The real value of the query."""
        return self.values[self.query]

    def derived(self, *, needed: bool) -> list[Statement]:
        """The derived (not literal) registers that the query needs, or those that it does not need."""
        return [s for s in self.definitions.values() if s.operator and (s.register in self.needed) == needed]


def apply(operator: str, left: int, right: int, modulus: int) -> int:
    """`left operator right` modulo `modulus`, in [0, modulus)."""
    if operator == "+":
        return (left + right) % modulus
    return (left - right if operator == "-" else left * right) % modulus


def value_of(operand: Operand, values: dict[str, int]) -> int:
    """A number stands for itself, a register for its value."""
    return values[operand] if isinstance(operand, str) else operand


def evaluate(statements: list[Statement], query: str, modulus: int) -> Program:
    """Runs the statements in order and finds what the query needs."""
    values: dict[str, int] = {}
    for name, operator, left, right in statements:
        x, y = value_of(left, values), value_of(right, values)
        values[name] = apply(operator, x, y, modulus) if operator else x
    needed = {query}
    for name, _, left, right in reversed(statements):
        if name in needed:
            needed.update(operand for operand in (left, right) if isinstance(operand, str))
    return Program({s.register: s for s in statements}, query, modulus, values, frozenset(needed))


def render(statements: list[Statement], query: str, step_limit: int | None = None) -> str:
    """The prompt: the statements, the query, the most steps allowed (`!4`) if there is a limit, a line end."""
    limit = "" if step_limit is None else f"!{step_limit}"
    return ";".join(map(str, statements)) + f";?{query}{limit}\n"


@lru_cache(maxsize=8192)  # the verifier reads the same prompt once a response
def parse_program(prompt: str, modulus: int) -> Program:
    """Reads a prompt back. A step limit in it is not part of the program.

    Raises:
      UserError: where the prompt is not a program modulo `modulus`.
    """
    *lines, query = _LIMIT.sub("", prompt.strip()).split(";")
    statements: list[Statement] = []
    known: set[str] = set()
    for line in lines:
        match = _STATEMENT.fullmatch(line)
        if match is None:
            raise UserError(f"register_chain: {line[:40]!r} in the prompt is not a statement such as b=a+5")
        name, literal, left, operator, right = match.groups()
        x, y = _operand(literal or left), _operand(right or "0")
        for operand in (x, y):
            if operand not in known if isinstance(operand, str) else operand >= modulus:
                raise UserError(f"register_chain: {operand} in {line!r} is not defined, or not below {modulus}")
        if name in known:
            raise UserError(f"register_chain: the prompt defines {name!r} twice")
        known.add(name)
        statements.append(Statement(name, operator or "", x, y))
    if query[:1] != "?" or query[1:] not in known:
        raise UserError(f"register_chain: the prompt must end in a query of a register, such as ?b, not {query[:40]!r}")
    return evaluate(statements, query[1:], modulus)


def _operand(text: str) -> Operand:
    return text if text.isalpha() else int(text)


def random_statements(config: RegisterChainConfig, uniform: Uniform) -> tuple[list[Statement], str]:
    """A random program whose registers are named a, b, c … in the order of their definition; with its query.

    Each operation on the query's chain takes the chain's latest register and a number (half of the time), an earlier
    register of the chain or a new literal. Distractors fall anywhere between.
    """

    def between(low: int, high: int) -> int:
        return low + int(uniform() * (high - low + 1))

    def pick(among: list[str] | str) -> str:
        return among[int(uniform() * len(among))]

    def literal() -> str:
        statements.append(Statement(REGISTERS[len(statements)], "", between(0, config.modulus - 1), 0))
        return statements[-1].register

    def derived(left: str, right: Operand) -> str:
        statements.append(Statement(REGISTERS[len(statements)], pick(config.operators), left, right))
        return statements[-1].register

    statements: list[Statement] = []
    operations, distractors = between(*config.operations), between(*config.distractors)
    chain = [literal()]
    while operations or distractors:
        kind = uniform()
        if uniform() * (operations + distractors) < distractors:
            distractors -= 1
            if kind < config.dead_ends:
                known = REGISTERS[: len(statements)]
                derived(pick(known), pick(known) if uniform() < 0.5 else between(1, config.modulus - 1))
            else:
                literal()
            continue
        operations -= 1
        right: Operand = between(1, config.modulus - 1)
        if kind >= 0.75 and len(statements) + operations + distractors + 2 <= len(REGISTERS):
            right = literal()
            chain.insert(0, right)  # not last: the chain goes on from its latest derived register
        elif kind >= 0.5 and len(chain) > 1:
            right = pick(chain[:-1])  # not the latest with itself, whose difference is always 0
        chain.append(derived(chain[-1], right))
    return statements, chain[-1]

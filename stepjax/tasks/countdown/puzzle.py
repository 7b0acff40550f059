"""Puzzles: `a=3;b=5;c=8;?4` asks for 4 of all these numbers; read from text, and random ones."""

import re
from dataclasses import dataclass
from functools import lru_cache

from stepjax.config.countdown import CountdownConfig
from stepjax.errors import UserError
from stepjax.tasks.countdown.solver import Rules, moves
from stepjax.tasks.drawn import Uniform
from stepjax.tasks.register_chain.program import NUMBER

_GIVEN = re.compile(rf"([a-z])=({NUMBER})")
_TARGET = re.compile(rf"\?({NUMBER})")


@dataclass(frozen=True)
class Puzzle:
    """`numbers`: the given values by their names, in the prompt's order."""

    numbers: dict[str, int]
    target: int

    def __str__(self) -> str:
        return "".join(f"{name}={value};" for name, value in self.numbers.items()) + f"?{self.target}\n"


@lru_cache(maxsize=8192)  # the verifier reads the same prompt once a response
def parse_puzzle(prompt: str, modulus: int) -> Puzzle:
    """Reads a prompt back.

    Raises:
      UserError: where the prompt is not a puzzle modulo `modulus`.
    """
    *given, last = prompt.strip().split(";")
    numbers: dict[str, int] = {}
    for text in given:
        match = _GIVEN.fullmatch(text)
        if match is None or match[1] in numbers or int(match[2]) >= modulus:
            raise UserError(
                f"countdown: {text[:40]!r} in the prompt is not a number below {modulus} with a name of its own, such "
                "as a=3"
            )
        numbers[match[1]] = int(match[2])
    match = _TARGET.fullmatch(last)
    if match is None or int(match[1]) >= modulus or len(numbers) < 2:
        raise UserError(f"countdown: the prompt must be some numbers and a target, such as ?4, not {last[:40]!r}")
    return Puzzle(numbers, int(match[1]))


def random_puzzle(config: CountdownConfig, uniform: Uniform, names: str) -> Puzzle:
    """Numbers and, by random moves with all of them, a target that they can make. `names`: of the numbers, in order."""
    low, high = config.numbers
    count = low + int(uniform() * (high - low + 1))
    values = [int(uniform() * config.modulus) for _ in range(count)]
    hand, rules = tuple(sorted(values)), rules_of(config)
    while len(hand) > 1:
        found = moves(hand, rules)
        hand = found[int(uniform() * len(found))].rest
    return Puzzle(dict(zip(names, values, strict=False)), hand[0])


def rules_of(config: CountdownConfig) -> Rules:
    """Of all puzzles of a config."""
    return Rules("".join(dict.fromkeys(config.operators)), config.modulus)

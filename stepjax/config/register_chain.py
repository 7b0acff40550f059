"""The knobs of RegisterChain: how hard the programs are, how noisy the demonstrations, what counts as wrong."""

from dataclasses import dataclass, fields
from operator import index
from typing import Any

from stepjax.config.option import option
from stepjax.errors import UserError

OPERATORS = "+-*"
REGISTERS = "abcdefghijklmnopqrstuvwxyz"
RATINGS = ("global", "local")


@dataclass(frozen=True)
class RegisterChainConfig:
    """A family of programs and their demonstrations. Changing the noise leaves every prompt as it was."""

    modulus: int = option(10, "values are whole numbers in [0, modulus); 2 to 100")
    operations: tuple[int, int] = option((2, 3), "fewest and most derived registers on the query's chain")
    operators: str = option(OPERATORS, "the operators drawn from, any of '+-*'; a repeated one is drawn more often")
    distractors: tuple[int, int] = option((0, 1), "fewest and most further registers that the query does not need")
    shuffled_names: bool = option(True, "registers get random letters; False: a, b, c … in order of definition")
    dead_ends: float = option(0.5, "chance that a distractor is derived (a dead end) rather than a literal")
    noisy: float = option(1.0, "share of demonstrations to which the noise below applies; the others are clean")
    false: float = option(0.15, "chance that a derivation states a wrong value; later steps build on it")
    restate: float = option(0.1, "chance, before each needed derivation, of restating a known value")
    unneeded: float = option(0.2, "chance, before each needed derivation, of first deriving a dead end if one can be")
    leap: float = option(
        0.03,
        "chance that a needed register's operation is left out: half of the time its value is stated alone, half of "
        "the time the next step rests on it unstated",
    )
    repair: float = option(
        0.25, "chance that a false derivation is taken back: half of the time at once, half just before the answer"
    )
    rating: str = option(
        "global",
        "what makes a step wrong: 'global' (not the real value) or 'local' (does not follow from what was stated)",
    )
    step_limit: bool = option(False, "the prompt states the most steps allowed, as in `a=7;b=a+5;?b!4`")
    spare_steps: tuple[int, int] = option(
        (0, 2), "fewest and most steps by which that limit exceeds the shortest right response"
    )
    train_problems: int = option(100_000, "problems of the split train")
    valid_problems: int = option(2_000, "problems of the split valid")
    test_problems: int = option(2_000, "problems of the split test")
    seed: int = option(0, "another seed gives other problems; 0 or more")

    def __post_init__(self) -> None:
        # A list, as read from JSON, would make the config unhashable.
        for name in ("operations", "distractors", "spare_steps"):
            object.__setattr__(self, name, _span(name, getattr(self, name), least=1 if name == "operations" else 0))
        for field in fields(self):
            if field.type is float and not 0.0 <= getattr(self, field.name) <= 1.0:
                raise UserError(f"register_chain: {field.name} must lie in [0, 1], not {getattr(self, field.name)}")
        if not 2 <= self.modulus <= 100:
            raise UserError(f"register_chain: modulus must lie in [2, 100], not {self.modulus}")
        if not self.operators or set(self.operators) - set(OPERATORS):
            raise UserError(f"register_chain: operators must be one or more of {OPERATORS!r}, not {self.operators!r}")
        if self.rating not in RATINGS:
            raise UserError(f"register_chain: rating must be one of {', '.join(RATINGS)}, not {self.rating!r}")
        if 1 + self.operations[1] + self.distractors[1] > len(REGISTERS):
            raise UserError(f"register_chain: operations and distractors need more than {len(REGISTERS)} registers")
        if 1 + self.operations[1] + self.spare_steps[1] > 99:
            raise UserError(f"register_chain: spare_steps={self.spare_steps} makes limits of more than two digits")
        if min(self.train_problems, self.valid_problems, self.test_problems) < 1 or self.seed < 0:
            raise UserError("register_chain: each split must have 1 problem or more, and seed must be 0 or more")


def _span(name: str, value: Any, least: int) -> tuple[int, int]:
    """A (fewest, most) pair, checked."""
    try:
        low, high = (index(bound) for bound in value)
    except (TypeError, ValueError):
        raise UserError(f"register_chain: {name} must be two whole numbers, not {value!r}") from None
    if not least <= low <= high:
        raise UserError(f"register_chain: {name} must be {least} or more, the fewest first, not {value!r}")
    return low, high

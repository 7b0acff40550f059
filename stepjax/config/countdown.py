"""Options of Countdown: how many numbers, which operators, how noisy the demonstrations."""

from dataclasses import dataclass

from stepjax.config.option import check_fields, number_span, option
from stepjax.config.register_chain import DEAD_END_RATINGS, OPERATORS
from stepjax.errors import UserError

MOST_NUMBERS = 6
"""With more the exact solver would take seconds a problem."""


@dataclass(frozen=True)
class CountdownConfig:
    """A family of problems and their demonstrations. Changing the noise leaves every prompt as it was.

    UserError, in one line, where a value is out of its bounds.
    """

    modulus: int = option(10, "values are whole numbers in [0, modulus); 2 to 100", least=2, most=100)
    numbers: tuple[int, int] = option(
        (3, 4), f"fewest and most numbers of a problem, all of which are to be used; 2 to {MOST_NUMBERS}"
    )
    operators: str = option(OPERATORS, "the operators that may be used, any of '+-*'")
    shuffled_names: bool = option(True, "numbers and results get random letters; False: a, b, c … in order")
    noisy: float = option(
        1.0, "fraction of the demonstrations to which the noise below applies; the others are clean", least=0, most=1
    )
    false: float = option(
        0.1, "probability that a move states a wrong value, from which the author goes on", least=0, most=1
    )
    restate: float = option(0.1, "probability, before each move, of restating a number", least=0, most=1)
    wander: float = option(
        0.3,
        "probability, before each move, of first making one after which the target is out of reach",
        least=0,
        most=1,
    )
    stuck: float = option(
        0.2, "probability that such a move is not taken back: the last value is the answer", least=0, most=1
    )
    dead_end: str = option(
        "neutral",
        "rating of a right move after which the target is out of reach, the first time",
        choices=DEAD_END_RATINGS,
    )
    train_problems: int = option(20_000, "problems of the split train", least=1)
    valid_problems: int = option(500, "problems of the split valid", least=1)
    test_problems: int = option(500, "problems of the split test", least=1)
    seed: int = option(0, "seed of the problems", least=0)

    def __post_init__(self) -> None:
        # A list, as read from JSON, would make the config unhashable.
        object.__setattr__(self, "numbers", number_span("countdown: numbers", self.numbers, least=2))
        check_fields("countdown", self)
        if self.numbers[1] > MOST_NUMBERS:
            raise UserError(f"countdown: numbers={self.numbers}: at most {MOST_NUMBERS}")
        if not self.operators or set(self.operators) - set(OPERATORS):
            raise UserError(f"countdown: operators must be one or more of {OPERATORS!r}, not {self.operators!r}")

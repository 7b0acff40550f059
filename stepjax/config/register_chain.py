"""Options of RegisterChain: how hard the programs are, how noisy the demonstrations, what counts as wrong."""

from dataclasses import dataclass

from stepjax.config.option import check_fields, number_span, option
from stepjax.errors import UserError

OPERATORS = "+-*"
REGISTERS = "abcdefghijklmnopqrstuvwxyz"
RATINGS = ("global", "local")
REPAIR_RATINGS = ("good", "neutral")
DEAD_END_RATINGS = ("good", "neutral", "bad")


@dataclass(frozen=True)
class RegisterChainConfig:
    """A family of programs and their demonstrations. Changing the noise leaves every prompt as it was.

    UserError, in one line, where a value is out of its bounds.
    """

    modulus: int = option(10, "values are whole numbers in [0, modulus); 2 to 100", least=2, most=100)
    operations: tuple[int, int] = option((2, 3), "fewest and most derived registers on the query's chain")
    operators: str = option(OPERATORS, "the operators drawn from, any of '+-*'; a repeated one is drawn more often")
    distractors: tuple[int, int] = option((0, 1), "fewest and most further registers that the query does not need")
    shuffled_names: bool = option(True, "registers get random letters; False: a, b, c … in order of definition")
    dead_ends: float = option(
        0.5, "probability that a distractor is derived (a dead end) rather than a literal", least=0, most=1
    )
    noisy: float = option(
        1.0, "fraction of the demonstrations to which the noise below applies; the others are clean", least=0, most=1
    )
    false: float = option(
        0.15, "probability that a derivation states a wrong value; later steps build on it", least=0, most=1
    )
    restate: float = option(
        0.1, "probability, before each needed derivation, of restating a known value", least=0, most=1
    )
    unneeded: float = option(
        0.2,
        "probability, before each needed derivation, of first deriving a dead end, if one is left to derive",
        least=0,
        most=1,
    )
    leap: float = option(
        0.03,
        "probability that a needed register's operation is left out: half of the time only its value is stated, half "
        "of the time the next step uses it unstated",
        least=0,
        most=1,
    )
    repair: float = option(
        0.25,
        "probability that a false derivation is corrected: half of the time at once, half just before the answer",
        least=0,
        most=1,
    )
    retry: float = option(
        0.0,
        "probability, before each derivation, of first writing a wrong try (a false value or, without forks, a "
        "register that cannot be computed yet) and taking it back by a line such as `!c`; repeated with the same "
        "probability",
        least=0,
        below=1,
    )
    repair_rating: str = option(
        "good",
        "rating of a line such as `!b=7+5=2` or `!c` that puts a false value right or takes one back (with forks: or "
        "leaves a dead end); a plain derivation in its place is rated as any",
        choices=REPAIR_RATINGS,
    )
    retry_masked: bool = option(False, "stage sft does not learn to write the wrong tries of `retry`")
    forks: tuple[int, int] = option(
        (0, 0),
        "fewest and most chains of registers that fork off the query's chain and lead nowhere; with them a derivation "
        "starts from the register derived last, and a line such as `!c` goes back to before c",
    )
    fork_steps: tuple[int, int] = option((1, 2), "fewest and most registers of such a chain")
    wander: float = option(
        0.3,
        "with forks: probability, where such a chain forks off, of entering it first",
        least=0,
        most=1,
    )
    stuck: float = option(
        0.0, "with forks: probability that an entered chain is not left: its last value is the answer", least=0, most=1
    )
    dead_end: str = option(
        "neutral",
        "with forks: rating of a right step into a chain that leads nowhere, the first time",
        choices=DEAD_END_RATINGS,
    )
    rating: str = option(
        "global",
        "what makes a step wrong: global (it is not the real value) or local (it does not follow from what was stated)",
        choices=RATINGS,
    )
    step_limit: bool = option(False, "the prompt states the most steps allowed, as in `a=7;b=a+5;?b!4`")
    spare_steps: tuple[int, int] = option(
        (0, 2), "fewest and most steps by which that limit exceeds the shortest right response"
    )
    train_problems: int = option(100_000, "problems of the split train", least=1)
    valid_problems: int = option(2_000, "problems of the split valid", least=1)
    test_problems: int = option(2_000, "problems of the split test", least=1)
    seed: int = option(0, "seed of the problems", least=0)

    def __post_init__(self) -> None:
        # A list, as read from JSON, would make the config unhashable.
        for name, least in (("operations", 1), ("distractors", 0), ("spare_steps", 0), ("forks", 0), ("fork_steps", 1)):
            object.__setattr__(self, name, number_span(f"register_chain: {name}", getattr(self, name), least=least))
        check_fields("register_chain", self)
        if not self.operators or set(self.operators) - set(OPERATORS):
            raise UserError(f"register_chain: operators must be one or more of {OPERATORS!r}, not {self.operators!r}")
        if 1 + self.operations[1] + self.distractors[1] > len(REGISTERS):
            raise UserError(f"register_chain: operations and distractors need more than {len(REGISTERS)} registers")
        if 1 + self.operations[1] + self.distractors[1] + self.forks[1] * self.fork_steps[1] > len(REGISTERS):
            raise UserError(f"register_chain: forks={self.forks} need more than {len(REGISTERS)} registers; make fewer")
        if 1 + self.operations[1] + self.spare_steps[1] > 99:
            raise UserError(f"register_chain: spare_steps={self.spare_steps} makes limits of more than two digits")

    @property
    def forked(self) -> bool:
        """Whether derivations walk: each starts from the register derived last."""
        return self.forks[1] > 0

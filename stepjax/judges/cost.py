"""What labels cost."""

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Cost:
    """Cost of labels: completions (or questions to a judge), tokens sampled, tokens read where they are known."""

    completions: int = 0
    tokens: int = 0
    read: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.completions + other.completions, self.tokens + other.tokens, self.read + other.read)

    def to_json(self) -> dict[str, int]:
        return {name: number for name, number in dataclasses.asdict(self).items() if number or name != "read"}

    @classmethod
    def from_json(cls, found: Any) -> "Cost":
        """The cost in a record's `extra["cost"]`; {} where there is none."""
        known = found if isinstance(found, dict) else {}
        names = (f.name for f in dataclasses.fields(cls))
        return cls(**{n: known[n] for n in names if isinstance(known.get(n), int)})

"""What the slots of a rollout with an environment over turns were used for."""

import dataclasses

from stepjax.rollout.record import Occupancy


@dataclasses.dataclass
class Use:
    """Seconds × slots, while there are at least as many responses that are not over as slots; and tokens, at all times.

    Attributes:
      decoding: in which a response drew tokens.
      feeding: in which a response read a reply, one token a step.
      prefilling: while responses began or went on.
      all: of the rollout, behind its first prefill.
      fed: tokens of replies that were read one a step.
      prefilled_again: tokens that were prefilled, replies among them, to go on behind; prompts that are prefilled for
        the first time do not count.
    """

    decoding: float = 0.0
    feeding: float = 0.0
    prefilling: float = 0.0
    all: float = 0.0
    fed: int = 0
    prefilled_again: int = 0

    @property
    def shares(self) -> dict[str, float]:
        """Of decoding, feeding and prefilling; the rest is idle."""
        whole = self.all or 1.0
        return {name: getattr(self, name) / whole for name in ("decoding", "feeding", "prefilling")}

    def __iadd__(self, more: "Use") -> "Use":
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(more, field.name))
        return self

    def decoded(self, seconds: float, before: Occupancy, after: Occupancy) -> None:
        """Adds a turn of so many seconds."""
        tokens, fed, steps = (_since(name, before, after) for name in ("drawn", "given", "steps"))
        self.decoding += seconds * (tokens - fed) / max(steps, 1)
        self.feeding += seconds * fed / max(steps, 1)


def _since(name: str, before: Occupancy, after: Occupancy) -> int:
    """The counters are of 32 bits and may go round."""
    return (int(getattr(after, name)) - int(getattr(before, name))) % (1 << 32)

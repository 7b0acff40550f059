"""Responses that go on in a later round: what of them has been drawn, on the host and in checkpoints."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from stepjax.kept import KeptForm
from stepjax.parallel import replicated


@dataclasses.dataclass(frozen=True)
class Part:
    """A response as far as it is drawn; n tokens.

    Attributes:
      tokens: int32[n].
      logprobs: float32[n], under the policy that drew each token.
      drawn: int32[n], the round in which each was drawn; not falling.
      ended: it is whole.
      finished: it ended by itself.
      kept: what the sampler's filters kept, [n, words]; None: it is not recorded.
    """

    tokens: np.ndarray
    logprobs: np.ndarray
    drawn: np.ndarray
    ended: bool = False
    finished: bool = False
    kept: np.ndarray | None = None

    @classmethod
    def nothing(cls, form: KeptForm | None) -> "Part":
        kept = None if form is None else np.zeros((0, form.words), form.dtype)
        return cls(np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, np.int32), kept=kept)


@dataclasses.dataclass(frozen=True)
class Group:
    """The responses to a problem of a round.

    Attributes:
      number: of the run's problems, from 0 on, in the order in which they are sampled.
      problem: its place among the run's prompts.
    """

    number: int
    problem: int
    parts: tuple[Part, ...]

    @property
    def begun(self) -> int | None:
        """The round in which its first token was drawn; None: it has none."""
        return min((int(part.drawn[0]) for part in self.parts if len(part.drawn)), default=None)

    def age(self, number: int) -> int:
        """Rounds since then, in round `number`."""
        return 0 if (begun := self.begun) is None else number - begun


@dataclasses.dataclass(frozen=True)
class GroupArrays:
    """Groups as arrays of a fixed size, for a checkpoint: as many `groups`, of `samples` responses each."""

    groups: int
    samples: int
    new_tokens: int
    form: KeptForm | None

    def abstract(self, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
        """What `of` gives, replicated."""
        shapes = self.of([Group(0, 0, (Part.nothing(self.form),) * self.samples)] * self.groups)
        return {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated(mesh)) for name, x in shapes.items()}

    def of(self, groups: Sequence[Group]) -> dict[str, np.ndarray]:
        """One row a group or a response, in their order."""
        parts = [part for group in groups for part in group.parts]
        assert len(groups) == self.groups and len(parts) == self.groups * self.samples

        def padded(name: str) -> np.ndarray:
            first = getattr(parts[0], name)
            found = np.zeros((len(parts), self.new_tokens, *first.shape[1:]), first.dtype)
            for row, part in zip(found, parts, strict=True):
                row[: len(part.tokens)] = getattr(part, name)
            return found

        found = {name: padded(name) for name in ("tokens", "logprobs", "drawn")}
        if self.form is not None:
            found["kept"] = padded("kept")
        return found | {
            "number": np.array([group.number for group in groups], np.int32),
            "problem": np.array([group.problem for group in groups], np.int32),
            "length": np.array([len(part.tokens) for part in parts], np.int32),
            "ended": np.array([part.ended for part in parts]),
            "finished": np.array([part.finished for part in parts]),
        }

    def groups_of(self, arrays: Mapping[str, Any]) -> list[Group]:
        """The groups that `of` was given."""
        parts = [
            Part(
                tokens=arrays["tokens"][row, :count],
                logprobs=arrays["logprobs"][row, :count],
                drawn=arrays["drawn"][row, :count],
                ended=bool(arrays["ended"][row]),
                finished=bool(arrays["finished"][row]),
                kept=None if self.form is None else arrays["kept"][row, :count],
            )
            for row, count in enumerate(arrays["length"].tolist())
        ]
        named = zip(arrays["number"].tolist(), arrays["problem"].tolist(), strict=True)
        return [
            Group(number, problem, tuple(parts[i * self.samples : (i + 1) * self.samples]))
            for i, (number, problem) in enumerate(named)
        ]

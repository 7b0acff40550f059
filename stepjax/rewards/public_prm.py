"""Scoring by a public process reward model: texts in, class probabilities of every step out, in one compiled program.

It has a tokenizer and a layout of its own, so it is fed with texts: the steps that the policy's splitter found on the
sampled ids, as text. The scores go back to the policy's steps, each to the last token of its step (`by_token`). Public
models have no neutral class: P(neutral) is 0, and a step's reward P(bad) × `bad` + P(good) × `good` of the stream that
reads it.
"""

from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from stepjax.data.packing import Example, pack_all
from stepjax.measures.step_classes import CLASSES
from stepjax.models.definition import Definition, Params
from stepjax.models.prm_heads import class_probabilities
from stepjax.parallel import batch_sharding, fetch, put
from stepjax.programs import Program, abstract
from stepjax.rewards.conventions_layout import Layout, Reading


class PublicPRM:
    """A convention's model with its tokenizer, over packed rows of one size: nothing is compiled after the first batch.

    Attributes:
      program: `(params, batch) -> float32[rows, width, 2]`.
      left_out: how many solutions of the latest call were longer than a row (in the model's own tokens) or have a step
        whose end is not a token of its own; they have no scores.
    """

    def __init__(self, definition: Definition, params: Params, layout: Layout, mesh: Mesh, *, rows: int, width: int):
        self.definition, self.layout, self.params, self.mesh = definition, layout, params, mesh
        self.rows, self.width = rows, width
        self.left_out = 0

        def score(params: Params, batch: dict[str, Array]) -> Float[Array, "B T 2"]:
            return class_probabilities(definition.bind(params)(batch["tokens"], batch["positions"], batch["segments"]))

        by_row = batch_sharding(mesh)
        leaf = jax.ShapeDtypeStruct((rows, width), np.int32, sharding=by_row)
        batch = dict.fromkeys(("tokens", "positions", "segments"), leaf)
        inputs = (abstract(definition.shapes, definition.shardings(mesh)), batch)
        self.program = Program("public_prm", score, mesh=mesh, inputs=inputs, out_shardings=by_row)

    def score(self, problems: Sequence[str], solutions: Sequence[Sequence[str]]) -> list[np.ndarray | None]:
        """P(bad), 0 and P(good) of every step, float32[S, 3], of each solution; None for one that is left out.

        Every process of a run makes this call with the same texts.
        """
        readings = self.layout(problems, solutions)
        found = [None if len(steps) else _nothing() for steps in solutions]
        fitting = [i for i, r in enumerate(readings) if r is not None and len(r.tokens) <= self.width]
        self.left_out = sum(f is None for f in found) - len(fitting)
        scores = self._read([reading for i in fitting if (reading := readings[i]) is not None])
        at = 0
        for i in fitting:
            found[i] = scores[at : at + len(solutions[i])]
            at += len(solutions[i])
        return found

    def _read(self, readings: Sequence[Reading]) -> np.ndarray:
        """The scores of all steps, one after the other, float32[n, 3]."""
        found = [_nothing()]
        for batch in pack_all([_example(r) for r in readings], rows=self.rows, width=self.width):
            places = batch.pop("targets") >= 0
            bad, good = fetch(self.program(self.params, put(batch, batch_sharding(self.mesh))))[places].T
            found.append(np.stack([bad, np.zeros_like(bad), good], axis=-1))
        return np.concatenate(found)

    def told_left_out(self) -> list[str]:
        """A sentence for people where the latest call left solutions out."""
        if not self.left_out:
            return []
        were = "response was" if self.left_out == 1 else "responses were"
        return [
            f"{self.left_out} {were} wider than prm.row_tokens={self.width} with the problem, in the tokens of the "
            "process reward model, and not read by it"
        ]


def _nothing() -> np.ndarray:
    return np.zeros((0, len(CLASSES)), np.float32)


def _example(reading: Reading) -> Example:
    targets = np.full(len(reading.tokens), -1, np.int32)
    targets[reading.places] = 0
    return Example(reading.tokens, targets)

"""How well a process reward model classifies steps: its probabilities on given responses, and the usual figures."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from stepjax.data.packing import Example, pack_all
from stepjax.learners.supervised import Batch, abstract_batch, put_batch
from stepjax.measures.step_classes import CLASSES, NEUTRAL
from stepjax.models.definition import Params
from stepjax.parallel import fetch, row_parts
from stepjax.programs import Program, abstract
from stepjax.row_parts import joined
from stepjax.runs.prm_labels import labelled_example
from stepjax.runs.responses import Response
from stepjax.runs.setup import Run
from stepjax.tasks.encoding import labelled_steps


class StepClassifier:
    """Runs the process reward model over packed rows of responses.

    Attributes:
      left_out: how many responses of the latest call, with their prompts, were wider than a row and therefore not read.
    """

    def __init__(self, run: Run, *, rows: int, width: int):
        self.run = run
        self.rows, self.width = rows, width
        self.left_out = 0
        parts = self._parts = row_parts(run.mesh)

        def score(params: Params, batch: Batch) -> Float[Array, "B T C"]:
            read = (batch[name] for name in ("tokens", "positions", "segments"))
            logits = run.prm.bind(params)(*read, parts=parts)
            return jax.nn.softmax(logits, axis=-1)

        params = abstract(run.prm.shapes, run.prm.shardings(run.mesh))
        inputs = (params, abstract_batch(rows, width, run.mesh, parts=parts))
        self.program = Program("prm_score", score, mesh=run.mesh, inputs=inputs)

    def __call__(self, params: Params, responses: Sequence[Response]) -> tuple[np.ndarray, np.ndarray]:
        """`(labels int[n], probabilities float[n, 3])` of all rated steps, in the responses' order."""
        return self._read(params, [labelled_example(self.run, r) for r in responses])

    def by_response(self, params: Params, responses: Sequence[Response]) -> list[np.ndarray | None]:
        """Probabilities float[steps, 3] of every step that has a token, rated or not; None for a response left out."""
        ends = [self.run.splitter.split_host(r.tokens)[1] for r in responses]
        counts = [int(end.sum()) for end in ends]
        examples = [
            labelled_steps(r.prompt, r.tokens, end, [0] * count)
            for r, end, count in zip(responses, ends, counts, strict=True)
        ]
        _, probabilities = self._read(params, examples)
        found: list[np.ndarray | None] = []
        at = 0
        for example, count in zip(examples, counts, strict=True):
            fits = len(example.tokens) <= self.width
            found.append(probabilities[at : at + count] if fits else None)
            at += count if fits else 0
        return found

    def at_targets(self, params: Params, examples: Sequence[Example]) -> list[np.ndarray]:
        """Probabilities float[n, 3] of each example where it has a target; ValueError for one wider than a row."""
        if any(len(e.tokens) > self.width for e in examples):
            raise ValueError(f"an example is wider than {self.width} tokens")
        _, probabilities = self._read(params, examples)
        counts = [int((e.targets >= 0).sum()) for e in examples]
        return np.split(probabilities, np.cumsum(counts)[:-1])

    def told_left_out(self) -> list[str]:
        """A sentence for people where the latest call left responses out."""
        if not self.left_out:
            return []
        were = "response was" if self.left_out == 1 else "responses were"
        return [
            f"{self.left_out} {were} wider than prm.row_tokens={self.width} with the prompt and not read by the "
            "process reward model"
        ]

    def _read(self, params: Params, examples: Sequence[Example]) -> tuple[np.ndarray, np.ndarray]:
        """Targets and probabilities where examples that fit have a target, in order."""
        self.left_out = sum(len(e.tokens) > self.width for e in examples)
        labels, probabilities = [np.zeros(0, np.int32)], [np.zeros((0, len(CLASSES)), np.float32)]
        for batch in pack_all(examples, rows=self.rows, width=self.width):
            at = batch["targets"] >= 0
            found = joined(fetch(self.program(params, put_batch(batch, self.run.mesh))), self._parts)
            labels.append(batch["targets"][at])
            probabilities.append(found[at])
        return np.concatenate(labels), np.concatenate(probabilities)


def classification_report(labels: np.ndarray, probabilities: np.ndarray, *, classes: int = 3) -> dict[str, Any]:
    """Accuracy, F1 of each class and their mean, and the confusion counts `[true][predicted]` (bad, neutral, good).

    A class that neither occurs nor is predicted counts as F1 = 0, so that macro-F1 cannot hide a missing class. The
    mean over a model of two `classes` is that of bad and good, where no label is neutral.
    """
    predicted = probabilities.argmax(-1)
    n = len(CLASSES)
    confusion = np.bincount(labels * n + predicted, minlength=n * n).reshape(n, n)
    right = np.diag(confusion)
    f1 = 2 * right / np.maximum(confusion.sum(0) + confusion.sum(1), 1)
    counted = f1 if classes == n or confusion[NEUTRAL].any() else np.delete(f1, NEUTRAL)
    return {
        "macro_f1": float(counted.mean()),
        "accuracy": float(right.sum() / max(confusion.sum(), 1)),
        "f1": {name: float(value) for name, value in zip(CLASSES, f1, strict=True)},
        "confusion": confusion.tolist(),
        "steps": int(confusion.sum()),
    }

"""How well a process reward model classifies steps: its probabilities on given responses, and the usual figures."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from stepjax.data.packing import pack_all
from stepjax.learners.supervised import Batch, abstract_batch
from stepjax.models.definition import Params
from stepjax.parallel import batch_sharding, fetch, put
from stepjax.programs import Program, abstract
from stepjax.runs.responses import Response
from stepjax.runs.setup import PRM_CLASSES, Run


class StepClassifier:
    """Runs the process reward model over packed rows of judged responses."""

    def __init__(self, run: Run, *, rows: int, width: int):
        self.run = run
        self.rows, self.width = rows, width

        def score(params: Params, batch: Batch) -> Float[Array, "B T C"]:
            logits = run.prm.bind(params)(batch["tokens"], batch["positions"], batch["segments"])
            return jax.nn.softmax(logits, axis=-1)

        params = abstract(run.prm.shapes, run.prm.shardings(run.mesh))
        inputs = (params, abstract_batch(rows, width, run.mesh))
        self.program = Program("prm_score", score, mesh=run.mesh, inputs=inputs)

    def __call__(self, params: Params, responses: Sequence[Response]) -> tuple[np.ndarray, np.ndarray]:
        """`(labels int[n], probabilities float[n, 3])` of all judged steps, in the responses' order."""
        from stepjax.runs.prm import labelled_example

        examples = [labelled_example(self.run, r) for r in responses]
        labels, probabilities = [np.zeros(0, np.int32)], [np.zeros((0, len(PRM_CLASSES)), np.float32)]
        for batch in pack_all(examples, rows=self.rows, width=self.width):
            at = batch["targets"] >= 0
            found = fetch(self.program(params, put(batch, batch_sharding(self.run.mesh))))
            labels.append(batch["targets"][at])
            probabilities.append(found[at])
        return np.concatenate(labels), np.concatenate(probabilities)


def classification_report(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """Accuracy, F1 of each class and their mean, and the confusion counts `[true][predicted]` (bad, neutral, good).

    A class that neither occurs nor is predicted counts as F1 = 0, so that macro-F1 cannot hide a missing class.
    """
    predicted = probabilities.argmax(-1)
    n = len(PRM_CLASSES)
    confusion = np.bincount(labels * n + predicted, minlength=n * n).reshape(n, n)
    right = np.diag(confusion)
    f1 = 2 * right / np.maximum(confusion.sum(0) + confusion.sum(1), 1)
    return {
        "macro_f1": float(f1.mean()),
        "accuracy": float(right.sum() / max(confusion.sum(), 1)),
        "f1": {name: float(value) for name, value in zip(PRM_CLASSES, f1, strict=True)},
        "confusion": confusion.tolist(),
        "steps": int(confusion.sum()),
    }

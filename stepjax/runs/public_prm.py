"""The public process reward model of a run: loading, scoring of responses, and its scores in the trajectory."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stepjax.console.progress import say
from stepjax.data.tokenizers import load_tokenizer
from stepjax.host_rows import HostRows
from stepjax.measures.step_classes import CLASSES
from stepjax.models.checkpoint_folder import open_checkpoint
from stepjax.models.prm_checkpoint import load_prm
from stepjax.rewards.by_token import by_token
from stepjax.rewards.conventions import CONVENTIONS
from stepjax.rewards.conventions_layout import Layout
from stepjax.rewards.public_prm import PublicPRM
from stepjax.runs.responses import Response
from stepjax.runs.setup import Run
from stepjax.trajectory import Trajectory


def load_public_prm(run: Run) -> PublicPRM:
    """The model of `config.prm.path`, sharded over the run's mesh.

    Raises:
      UserError: it cannot be read, or does not fit `config.prm.convention`.
    """
    options = run.config.prm
    convention = CONVENTIONS[options.convention]
    folder = open_checkpoint(options.path).path
    tokenizer = load_tokenizer(folder, where="config.prm.path")
    layout = Layout(convention, tokenizer, separator=options.separator)
    definition, params = load_prm(
        folder,
        run.mesh,
        head=convention.head,
        classes=layout.classes,
        dtype=run.config.model.dtype,
        entries=len(tokenizer),
        longest=options.row_tokens,
    )
    return PublicPRM(definition, params, layout, run.mesh, rows=options.rows, width=options.row_tokens)


def score_responses(model: PublicPRM, responses: Sequence[Response]) -> list[np.ndarray | None]:
    """P(bad), 0 and P(good) of every step, float32[S, 3], of each response; None for one that is left out."""
    return model.score([r.problem.text for r in responses], [r.steps for r in responses])


def with_scores(rows: Trajectory, scores: Any = None) -> Trajectory:
    """The trajectory with a public model's scores, float32[B, T, 3]; without them, abstract ones for a program."""
    if scores is None:
        shape = (*rows.tokens.shape, len(CLASSES))
        scores = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=rows.tokens.sharding)
    return dataclasses.replace(rows, prm=scores)


class PublicScores:
    """A public model's scores of the rounds of a run."""

    def __init__(self, model: PublicPRM, hosts: HostRows):
        self.model, self.hosts, self._told = model, hosts, False

    def __call__(
        self, rows: Trajectory, responses: Sequence[Response], index: np.ndarray, end: np.ndarray, *, where: str
    ) -> tuple[Trajectory, dict[str, float]]:
        """The trajectory with the scores, and their figures.

        Args:
          responses: of all rows.
          index, end: int[B, T] and bool[B, T] of this process's rows, the step of each token and the last of each step.
          where: begins the sentence that says so the first time that responses were left out.
        """
        scores = score_responses(self.model, responses)
        own = by_token([scores[row] for row in self.hosts.mine], index, end, columns=(len(CLASSES),))
        if told := [] if self._told else self.model.told_left_out():
            self._told = True
            say(f"{where}: {told[0]}; their reward is 0 (prm/left_out in metrics.jsonl)")
        return with_scores(rows, self.hosts.put(own)), {"prm/left_out": self.model.left_out / len(responses)}

"""The public process reward model of a run: loading, scoring of responses, and its scores in the trajectory."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stepjax.data.tokenizers import load_tokenizer
from stepjax.measures.step_classes import CLASSES
from stepjax.models.checkpoint_folder import open_checkpoint
from stepjax.models.prm_checkpoint import load_prm
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

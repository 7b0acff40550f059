"""Learning from credited responses: log-probabilities, losses, optimisers, and the compiled programs of the stages.

A loop of one's own needs `token_logprobs`, `ppo_loss` (and `token_values`, `value_loss` with a critic) on whole
trajectories. The losses of single tokens (`ppo_clip`, `cispo` …) and `loss_weights` build others. The programs are what
the stages of a run execute.
"""

from stepjax.learners.losses import (
    cispo,
    classification_loss,
    dppo,
    ppo_clip,
    reinforce,
    sapo,
    value_loss,
)
from stepjax.learners.optimizers import make_optimizer
from stepjax.learners.own_loops import ppo_loss, token_logprobs, token_values
from stepjax.learners.ppo import credit_program
from stepjax.learners.reduce import loss_weights
from stepjax.learners.score import score_program
from stepjax.learners.update import update_program

__all__ = [
    "cispo",
    "classification_loss",
    "credit_program",
    "dppo",
    "loss_weights",
    "make_optimizer",
    "ppo_clip",
    "ppo_loss",
    "reinforce",
    "sapo",
    "score_program",
    "token_logprobs",
    "token_values",
    "update_program",
    "value_loss",
]

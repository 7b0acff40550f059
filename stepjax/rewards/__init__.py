"""Rewards: step scores from a process reward model, their shaping, and the tokens that earn them."""

from stepjax.rewards.on_tokens import on_response_end, on_step_ends, score
from stepjax.rewards.shaping import best_of, bound, clip, delta, early, min_form, share

__all__ = [
    "best_of",
    "bound",
    "clip",
    "delta",
    "early",
    "min_form",
    "on_response_end",
    "on_step_ends",
    "score",
    "share",
]

"""Rewards: their values, and the tokens that earn them."""

from stepjax.rewards.shaping import best_of, bound, clip, delta, early, min_form, share

__all__ = ["best_of", "bound", "clip", "delta", "early", "min_form", "share"]

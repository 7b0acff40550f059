"""Rewards: their values, and the tokens that earn them."""

from stepjax.rewards.shaping import bound, clip, delta, min_form

__all__ = ["bound", "clip", "delta", "min_form"]

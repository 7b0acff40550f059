"""Rewards: what was earned, and on which token."""

from stepjax.rewards.shaping import bound, clip, delta, min_form

__all__ = ["bound", "clip", "delta", "min_form"]

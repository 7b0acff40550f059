"""Rewards: what was earned, and on which token."""

from stepjax.rewards.shaping import clip, delta, min_form

__all__ = ["clip", "delta", "min_form"]

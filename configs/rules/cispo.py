"""CISPO, 2506.13585: GRPO's advantages, the policy gradient weighed by a bounded ratio.

    loss = −sg(min(ρ, 1 + ε))·A·log π

Differs: verl bounds the ratio below, too (clip_low = ε); TRL's ε is the absolute bound, 1 + ε here.
"""

from stepjax.options import recipe, stream


def get_config():
    config = recipe()
    config.ppo.samples = 8
    config.ppo.loss, config.ppo.clip_low, config.ppo.clip_high = "cispo", 1.0, 4.0
    group = {"horizon": "response", "baseline": "mean", "scale": "sample_std", "bad": 0.0, "whiten": False}
    config.ppo.streams = {"outcome": stream(signal="outcome", **group)}
    return config

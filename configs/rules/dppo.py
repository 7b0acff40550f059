"""DPPO, 2602.04879: GRPO's advantages, tokens whose probability has moved too far are left out.

    loss = −A·sg(min(ρ, 20))·log π;  0 where A > 0 and π − π_old > ε, or A < 0 and π − π_old < −ε

Differs: π_old is the learner's before the update; prime-rl compares with the sampler's.
"""

from stepjax.options import recipe, stream


def get_config():
    config = recipe()
    config.ppo.samples, config.ppo.loss = 8, "dppo"
    group = {"horizon": "response", "baseline": "mean", "scale": "sample_std", "bad": 0.0, "whiten": False}
    config.ppo.streams = {"outcome": stream(signal="outcome", **group)}
    return config

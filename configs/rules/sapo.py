"""SAPO, 2511.20347: GRPO's advantages, a soft gate in place of the clip.

    loss = −A·4σ(τ(ρ − 1))/τ,  τ = 1 for A > 0, else 1.05

Differs: nothing known.
"""

from stepjax.options import recipe, stream


def get_config():
    config = recipe()
    config.ppo.samples, config.ppo.loss = 8, "sapo"
    group = {"horizon": "response", "baseline": "mean", "scale": "sample_std", "bad": 0.0, "whiten": False}
    config.ppo.streams = {"outcome": stream(signal="outcome", **group)}
    return config

"""GSPO, 2507.18071: GRPO with one ratio a sequence.

    s = exp(mean of log ρ over the response),  loss = mean over responses of max(−A·s, −A·clip(s, 1 − 3e-4, 1 + 4e-4))

Differs: nothing known.
"""

from stepjax.options import recipe, stream


def get_config():
    config = recipe()
    config.ppo.samples, config.ppo.ratio, config.ppo.reduce = 8, "sequence", "sequence"
    config.ppo.clip_low, config.ppo.clip_high = 3e-4, 4e-4
    group = {"horizon": "response", "baseline": "mean", "scale": "sample_std", "bad": 0.0, "whiten": False}
    config.ppo.streams = {"outcome": stream(signal="outcome", **group)}
    return config

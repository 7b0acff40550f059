"""GRPO, 2402.03300, with outcomes: each against the group's mean, over its standard deviation.

    A = (r − mean) / std, std over n − 1

Differs: a group of equal rewards gets exactly 0, not 0/ε; a truncated response is in no mean.
"""

from stepjax.options import recipe, stream


def get_config():
    config = recipe()
    config.ppo.samples = 8
    group = {"horizon": "response", "baseline": "mean", "scale": "sample_std", "bad": 0.0, "whiten": False}
    config.ppo.streams = {"outcome": stream(signal="outcome", **group)}
    return config

"""DRACO, 2609.04094: a response's advantage, divided among its steps by their quality.

    a_k = A·N·w_k / (n_k·Σw),  w = Q_k where A > 0, else 1 − Q_k;  step k has n_k of N tokens

Differs: formula and figures are second-hand; Q_k is a PRM's P(good), not the rate at which rubrics pass.
"""

from stepjax.options import recipe, stream


def get_config():
    config = recipe()
    config.ppo.samples = 8
    step = {"signal": "prm", "shaping": ("share",), "times": "outcome", "neutral": 0.5, "whiten": False}
    group = {"horizon": "response", "baseline": "mean", "scale": "std", "weight": 0.0, "whiten": False}
    config.ppo.streams = {"outcome": stream(signal="outcome", **group)}
    config.ppo.streams["gains"] = stream(good=1.0, bad=0.0, pay="positive", **step)
    config.ppo.streams["losses"] = stream(good=0.0, bad=1.0, pay="negative", **step)
    return config

"""SPRO, 2507.01551: GRPO, plus the log-ratio to the reference so far against the rows that still run.

    A_t = A_outcome + C_t − mean of C_t over the rows alive at t,  C_t = β·Σ_{j ≤ t} log(π/π_ref)

Differs: formula and figures are second-hand.
"""

from stepjax.options import recipe, stream


def get_config():
    config = recipe()
    config.ppo.samples = 8
    group = {"horizon": "response", "baseline": "mean", "scale": "sample_std", "bad": 0.0, "whiten": False}
    so_far = {"sum": "so_far", "baseline": "mean", "among": "index", "when": "return", "whiten": False}
    config.ppo.streams = {"outcome": stream(signal="outcome", **group)}
    config.ppo.streams["kl"] = stream(signal="kl", horizon="response", weight=-0.1, **so_far)
    return config

"""Clip and Delta, 2410.15115: process rewards that more steps cannot add to, with the outcome.

    clip: r_k ← min(r_k − η, 0);  delta: r_k ← r_k − r_{k+1}, the last but one stays, the last is 0

Differs: η is not public; 0.5 lies between a neutral and a good step.
"""

from stepjax.options import recipe, stream


def get_config():
    config = recipe()
    config.ppo.streams = {
        "process": stream(signal="prm", horizon="response", estimator="return", shaping=("clip:0.5", "delta")),
        "outcome": stream(signal="outcome", horizon="response", estimator="return", bad=0.0),
    }
    return config

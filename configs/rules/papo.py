"""PAPO, 2603.26535: GRPO on outcomes, plus process scores compared among the correct responses only.

    A = A_outcome + λ·(s − mean)/std over the correct responses;  0 with fewer than two of them or no spread

Differs: the authors' judge rates a response once; a PRM here rates its steps, and each one is compared and credited.
"""

from stepjax.options import recipe, stream


def get_config():
    config = recipe()
    config.ppo.samples = 8
    group = {"baseline": "mean", "scale": "sample_std", "whiten": False}
    config.ppo.streams = {
        "outcome": stream(signal="outcome", horizon="response", bad=0.0, **group),
        "process": stream(signal="prm", horizon="step", gate="right", weight=1.0, **group),
    }
    return config

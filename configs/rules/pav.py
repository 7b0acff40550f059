"""PAV, 2410.08146: outcome plus α × the progress of a prover, here the best of 4 completions of the policy.

    A_k = Q + α·(V^μ(k) − V^μ(k−1)),  V^μ = 1 − (1 − V)^4

Differs: V(0) is a number (1 − (1 − 0.5)^4), not estimated; that a step is credited with its own
progress alone is second-hand.
"""

from stepjax.options import recipe, stream


def get_config():
    config = recipe()
    config.prm.target = "value"
    progress = {"shaping": ("best_of:4",), "first": 0.9375, "last": "score", "bad": 0.0, "neutral": 0.5}
    config.ppo.streams = {
        "process": stream(signal="prm", estimator="progress", weight=3.0, whiten=False, **progress),
        "outcome": stream(signal="outcome", horizon="response", estimator="return", bad=0.0, whiten=False),
    }
    return config

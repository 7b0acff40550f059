"""GiGPO, 2505.10978: the group's comparison of responses, plus one of steps from the same state.

    A = A_episode + ω·(R_k − mean of R over the same anchor state),  R_k = Σ γ^l r_{k+l} by steps

Differs: a state is the same tokens before the step, not an environment's observation; a step's rewards are the task's
ratings; no standard deviation is divided by.
"""

from stepjax.options import recipe, stream


def get_config():
    config = recipe()
    config.ppo.samples = 8
    step = {"unit": "step", "hold": True, "gamma": 0.95, "when": "return", "baseline": "mean", "among": "state"}
    config.ppo.streams = {
        "outcome": stream(signal="outcome", horizon="response", bad=0.0, baseline="mean", whiten=False),
        "step": stream(signal="verifier", horizon="response", whiten=False, **step),
    }
    return config

"""MONA, 2501.13011: myopic optimisation, each step is credited with its own approval only.

    A_t = r_k for the tokens of step k

Differs: formula and figures are second-hand. The approval is the task's exact rating of a step.
"""

from stepjax.options import recipe, stream


def get_config():
    config = recipe()
    config.ppo.streams = {
        "approval": stream(signal="verifier", horizon="step", estimator="return", whiten=False),
    }
    return config

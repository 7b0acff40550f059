"""GRPO with process rewards, 2402.03300, section 4.1.3.

    r̃ = (r − mean) / std over all step scores of the group,  A_t = Σ of r̃ of the steps that end at t or later

Differs: nothing known; the standard deviation is the biased one. The number of means that are subtracted follows the
number of a response's steps, which biases the gradient (`unbiased_turns` does not).
"""

from stepjax.options import recipe, stream


def get_config():
    config = recipe()
    config.ppo.samples = 8
    config.ppo.streams = {
        "process": stream(signal="prm", horizon="response", estimator="group", whiten=False),
    }
    return config

"""Dr. GRPO, 2503.20783: GRPO without its two biases, by length and by the difficulty of a problem.

    A = r − mean;  the loss is summed over tokens and divided by responses × longest response

Differs: nothing known; a truncated response is in no mean.
"""

from stepjax.options import recipe, stream


def get_config():
    config = recipe()
    config.ppo.samples = 8
    config.ppo.reduce = "fixed"
    config.ppo.streams = {
        "outcome": stream(signal="outcome", horizon="response", bad=0.0, baseline="mean", whiten=False),
    }
    return config

"""REINFORCE++-baseline, 2501.03262: outcomes minus the group's mean, whitened over the batch.

    A = (r − mean of the group − mean) / std over all tokens of the batch

Differs: the standard deviation over n, not n − 1, of the batch's tokens.
"""

from stepjax.options import recipe, stream


def get_config():
    config = recipe()
    config.ppo.samples = 8
    config.ppo.whiten = True
    config.ppo.streams = {
        "outcome": stream(signal="outcome", horizon="response", bad=0.0, baseline="mean", whiten=False),
    }
    return config

"""REINFORCE++, 2501.03262: rewards to go with the divergence in the reward, whitened over the batch.

    A_t = (G_t − mean) / std over all tokens,  G_t = r + Σ_{s ≥ t} −β·KL_s

Differs: the standard deviation over n, not n − 1, of the batch's tokens; observed tokens are passed over.
"""

from stepjax.options import recipe, stream


def get_config():
    config = recipe()
    config.ppo.whiten = True
    config.ppo.streams = {
        "outcome": stream(signal="outcome", horizon="response", bad=0.0, estimator="return", whiten=False),
        "kl": stream(signal="kl", horizon="response", estimator="return", weight=0.01, whiten=False),
    }
    return config

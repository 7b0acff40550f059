"""SPO-chain, 2505.23564: segments that every fifth token with p < 0.9 opens; only such tokens train.

    A = V(next cut) − V(last cut) of a segment, the last one with the outcome;  tokens with p > 0.9 leave the loss

Differs: V is a critic's, not that of completions from each cut; the tokens before the first cut are a segment of their
own, where the authors give them 0.
"""

from stepjax.options import recipe, stream


def get_config():
    config = recipe()
    config.ppo.train_on = ("below:0.9",)
    config.ppo.streams = {
        "outcome": stream(signal="outcome", horizon="response", unit="cut:0.9:5", hold=True, lam=0.0, bad=0.0),
    }
    return config

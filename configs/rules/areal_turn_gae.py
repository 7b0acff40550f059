"""Turn-level GAE: AReaL, trainer/ppo/gae.py (pull request 1600).

    δ_u = Σr_u + γV_{u+1} − V_u,  A_u = δ_u + γλA_{u+1},  V_u at the turn's first token, A_u on all of its tokens

Differs: a truncated response is bootstrapped by what is recorded, not guessed from the row's width; λ is a constant,
not 1 − 1/(αL) of L turns.
"""

from stepjax.options import recipe, stream


def get_config():
    config = recipe()
    config.ppo.streams = {
        "outcome": stream(signal="outcome", horizon="response", unit="turn", hold=True, gamma=1.0, lam=0.95),
        "kl": stream(signal="kl", horizon="response", estimator="return", weight=0.01, whiten=False),
    }
    return config

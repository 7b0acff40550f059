"""SAE, 2601.07320: GAE over segments, which unlikely tokens open.

    A_t = δ_t + λ_t·A_{t+1},  γ = 1,  λ_t = λ where a segment ends, else 1;  a token with p_old < 0.2 opens a segment

Differs: formula and figures are second-hand; that the unlikely token is the first of its segment, and not the last one,
is an assumption.
"""

from stepjax.options import recipe, stream


def get_config():
    config = recipe()
    config.ppo.streams = {
        "outcome": stream(signal="outcome", horizon="response", unit="cut:0.2:1", lam=0.95),
    }
    return config

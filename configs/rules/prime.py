"""PRIME, 2502.01456: each token's implicit process reward, whose model φ learns from the outcomes, and the outcome.

    r_t = β·log(φ/π_ref) / max |return|;  A_t = Σ_{s≥t} (r_s − mean of the others' mean r) + o − mean of the others' o

Differs: the code subtracts n/(n−1) times the mean of all from n/(n−1)·r, equal on average, leaves a response's last
token unpaid, drops problems outside 20 to 80 % right before φ trains, and weighs both parts by 5; a truncated response
is paid by φ, which does not train on it.
"""

from stepjax.options import recipe, stream


def get_config():
    config = recipe()
    config.ppo.samples, config.ppo.whiten, config.ppo.refill = 8, True, 3
    both = {"horizon": "response", "baseline": "others", "among": "response", "whiten": False}
    config.ppo.streams = {
        "implicit": stream(signal="implicit", per="token", **both),
        "outcome": stream(signal="outcome", bad=0.0, **both),
    }
    return config

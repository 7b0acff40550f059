"""RLOO, 2402.14740: each outcome against the mean of the other responses.

    A_i = r_i − mean of r_j over j ≠ i

Differs: verl's loop returns the raw reward for a group of one, its vectorised form and tunix 0; here a group of one is
an error.
"""

from stepjax.options import recipe, stream


def get_config():
    config = recipe()
    config.ppo.samples = 8
    config.ppo.streams = {
        "outcome": stream(signal="outcome", horizon="response", bad=0.0, estimator="rloo", whiten=False),
    }
    return config

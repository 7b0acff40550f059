"""PURE, 2504.15275: the sum of a response's process rewards is replaced by their minimum, against other responses.

    r*_k = softmax_k(−r/0.1)·r_k,  A_t = Σ_{k ≥ t} r*_k − baseline of the other responses

Differs: the baseline is the mean of the others' returns, one number a row, not their reward per token times the tokens.
"""

from stepjax.options import recipe, stream


def get_config():
    config = recipe()
    config.ppo.samples = 8
    shaped = {"shaping": ("min_form:0.1",), "estimator": "rloo", "whiten": False}
    config.ppo.streams = {"process": stream(signal="prm", horizon="response", **shaped)}
    return config

"""MRPO, 2606.31825: in wrong responses valid steps gain, and invalid ones lose the more the earlier they come.

    A_k = A in right responses; in wrong ones +|A| for a valid step, −|A|·e^{1 − (k−1)/(K−1)} for an invalid one

Differs: right and wrong instead of an accuracy above 0.6; a step is valid where the verifier does not call it bad.
"""

from stepjax.options import recipe, stream


def get_config():
    config = recipe()
    config.ppo.samples = 8
    group = {"horizon": "response", "baseline": "mean", "scale": "sample_std", "bad": 0.0, "whiten": False}
    step = {"neutral": 1.0, "shaping": ("early",), "weight": -1.0, "whiten": False}
    config.ppo.streams = {"outcome": stream(signal="outcome", pay="right", **group)}
    config.ppo.streams["process"] = stream(signal="verifier", times="outcome", pay="wrong", **step)
    return config

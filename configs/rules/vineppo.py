"""VinePPO, 2410.01679: a step is worth what it adds to the chance of success.

    A_k = r_k + V_{k+1} − V_k,  V(end) = 0, whitened over the batch

Differs: V is a trained value PRM, not the mean of nine fresh completions; V(0) is the mean outcome of the problem's
other responses. The authors' rollouts from prefixes need the cache that rows share.
"""

from stepjax.options import recipe, stream


def get_config():
    config = recipe()
    config.prm.target = "value"
    config.ppo.samples, config.ppo.whiten = 8, True
    value = {"prompt_value": "others", "bad": 0.0, "neutral": 0.5, "whiten": False}
    config.ppo.streams = {"progress": stream(signal="prm", estimator="progress", **value)}
    return config

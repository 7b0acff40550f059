"""VinePPO, 2410.01679: a step is worth what it adds to the chance of success.

    A_k = r_k + V_{k+1} − V_k,  V(end) = 0, whitened over the batch

Differs: V(0) is the mean outcome of the problem's other responses, not that of nine completions of the prompt; equal
beginnings are completed once.
"""

from stepjax.options import recipe, stream


def get_config():
    config = recipe()
    config.ppo.samples, config.ppo.whiten, config.ppo.mc.completions = 8, True, 9
    value = {"prompt_value": "others", "bad": 0.0, "whiten": False}
    config.ppo.streams = {"progress": stream(signal="mc", estimator="progress", **value)}
    return config

"""DAPO, 2503.14476: GRPO with a higher upper clip, a token mean, a soft penalty of length, dynamic sampling.

    r = outcome + min(0, −(L − L_max + buffer)/buffer),  A = (r − mean) / std,  ε = 0.2 below and 0.28 above

Differs: groups of equal outcomes that nine further rollouts could not replace stay in the round, without a loss; a
truncated response has the penalty alone, as one whose outcome is 0.
"""

from stepjax.options import recipe, stream


def get_config():
    config = recipe()
    config.ppo.samples, config.ppo.max_new_tokens = 8, 100
    config.ppo.clip_high, config.ppo.train_on, config.ppo.refill = 0.28, ("informative",), 9
    group = {"horizon": "response", "baseline": "mean", "scale": "sample_std", "bad": 0.0, "whiten": False}
    config.ppo.streams = {"outcome": stream(signal="outcome", **group)}
    config.ppo.streams["length"] = stream(signal="length", per="response", most=80, token_cost=0.05, join="outcome")
    return config

"""Turn-PPO, 2512.17008: turn-level GAE with γ = 0.99 and λ = 0.9, and the ratio clipped by turn.

    A_u = δ_u + γλA_{u+1},  ρ_u = Π_t ρ_t over the turn's tokens

Differs: formula and figures are second-hand.
"""

from stepjax.options import recipe, stream


def get_config():
    config = recipe()
    config.ppo.ratio = "turn"
    config.ppo.streams = {
        "outcome": stream(signal="outcome", horizon="response", unit="turn", hold=True, gamma=0.99, lam=0.9),
    }
    return config

"""Step-level PPO with a learned process reward model on RegisterChain, the exact small world.

Cost: about four minutes on two CPU cores.
Expect: accuracy from 30-60% after supervised training to over 90%, with under 5% trace error.

    stepjax quickstart --workdir=runs/quickstart
"""

from stepjax.options import recipe


def get_config():
    config = recipe()
    return config

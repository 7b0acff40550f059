"""Step-level PPO with a learned process reward model on RegisterChain, the exact small world.

Cost: about four minutes on two CPU cores.
Expect: accuracy from 30-60% after supervised training to over 90%, with under 5% trace error.

    stepjax quickstart --workdir=runs/quickstart
"""

from stepjax.options import recipe


def get_config():
    config = recipe()
    config.task.register_chain.shuffled_names = False

    config.model.qk_norm = False
    config.model.unroll = 2

    config.sft.updates = 1200
    config.sft.rows = 16
    config.sft.optimizer.lr = 2.5e-3

    config.prm.updates = 800
    config.prm.rows = 16
    config.prm.optimizer.lr = 2e-3

    config.ppo.prompt_tokens = 43
    config.ppo.max_new_tokens = 64
    return config

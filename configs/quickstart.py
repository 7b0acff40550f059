"""Step-level PPO with a learned process reward model on RegisterChain, a small task with exact step ratings.

Cost: a few minutes on two CPU cores.

    stepjax quickstart --workdir=runs/quickstart
"""

from stepjax.options import recipe


def get_config():
    config = recipe()
    world = config.task.register_chain
    world.operations = (2, 2)
    world.operators = "+-"
    world.shuffled_names = False
    world.false = 0.25

    config.model.unroll = 2
    config.model.rope_theta = 100.0  # rows are short: faster rotations help heads to find the previous token early

    config.sft.updates = 3000
    config.sft.rows = 8
    config.sft.row_tokens = 96
    config.sft.optimizer.lr = 2.5e-3
    config.sft.optimizer.b2 = 0.99
    config.sft.optimizer.weight_decay = 0.1
    config.sft.checkpoint_every = 1000
    config.sft.log_every = 50

    config.prm.reader_layers = 1
    config.prm.updates = 800
    config.prm.rows = 16
    config.prm.row_tokens = 96
    config.prm.samples = 6144
    config.prm.demonstrations = 2048
    config.prm.optimizer.lr = 2e-3
    config.prm.checkpoint_every = 400

    config.ppo.iterations = 60
    config.ppo.prompt_tokens = 33
    config.ppo.max_new_tokens = 48
    config.ppo.policy.lr = 4e-4
    config.ppo.policy.schedule = "linear"
    config.ppo.entropy = 0.005
    config.ppo.kl = 0.02
    # Deriving pays more than restating if P(good) > (neutral - bad) / (good - bad): at 0 a weak policy would restate.
    config.ppo.streams.process.neutral = -0.5
    return config

"""Guess a number between 1 and 15 in four turns; the environment says "higher" or "lower".

    stepjax quickstart --config=guess --seeds=0,1,2 --workdir=runs/guess
    stepjax quickstart --config=guess:outcome --seeds=0,1,2 --config.base=runs/guess-s{seed} --workdir=runs/outcome

Cost: a few minutes a run on two CPU cores. The arm's name follows the colon: `turn` (GAE over turns), `step` (a guess's
own reward alone), `outcome` (right or not, at the end) or `turn_outcome` (both, two streams); all but `turn` start from
the SFT policy of a run of `turn`. The demonstrations guess any number that is still possible and earn 0.33 on average;
halving, the best policy, earns 0.773.
"""

from stepjax.options import recipe, stream

TURN = {"signal": "environment", "unit": "turn", "horizon": "response"}
OUTCOME = {"signal": "outcome", "horizon": "response", "lam": 1.0, "bad": 0.0}
ARMS = {
    "turn": {"turn": stream(**TURN)},
    "step": {"step": stream(signal="environment", horizon="step")},
    "outcome": {"outcome": stream(**OUTCOME)},
    "turn_outcome": {"turn": stream(**TURN), "outcome": stream(**OUTCOME, weight=0.5)},
}


def get_config(arm="turn"):
    if arm not in ARMS:
        raise ValueError(f"no arm {arm!r}; there are " + ", ".join(ARMS))
    config = recipe()
    config.stages = ("sft", "ppo") if arm == "turn" else ("ppo",)
    config.from_base = () if arm == "turn" else ("sft",)
    config.task.name = "guess"
    config.environment.name = "guess"
    config.environment.reply_tokens = 4

    config.model.layers, config.model.width, config.model.mlp = 2, 64, 128
    config.model.heads, config.model.kv_heads, config.model.head_dim = 4, 4, 16

    config.sft.updates = 400
    config.sft.rows = 16
    config.sft.row_tokens = 64
    config.sft.optimizer.lr = 3e-3
    config.sft.checkpoint_every = 400
    config.sft.log_every = 50

    config.ppo.streams = ARMS[arm]
    config.ppo.iterations = 120
    config.ppo.prompts, config.ppo.samples = 256, 1
    config.ppo.prompt_tokens, config.ppo.max_new_tokens = 8, 24
    config.ppo.epochs, config.ppo.minibatches = 2, 4
    config.ppo.policy.schedule = "linear"
    config.ppo.policy.lr = config.ppo.critic.lr = 1e-3
    config.ppo.entropy = 0.005
    config.ppo.checkpoint_every = 40

    config.eval.problems = 512
    return config

"""Options of training runs that take seconds and learn next to nothing: what `stepjax study --quick` trains."""

QUICK_RUN = (
    "--config.model.layers=2",
    "--config.model.width=32",
    "--config.model.heads=2",
    "--config.model.kv_heads=2",
    "--config.model.head_dim=16",
    "--config.model.mlp=64",
    "--config.sft.updates=60",
    "--config.sft.checkpoint_every=30",
    "--config.prm.updates=10",
    "--config.prm.samples=64",
    "--config.prm.valid_samples=32",
    "--config.prm.demonstrations=32",
    "--config.eval.problems=64",
    "--config.eval.rows=64",
)
QUICK_PPO = ("--config.ppo.iterations=6", "--config.ppo.prompts=8", "--config.ppo.samples=4")

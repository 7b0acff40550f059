"""Options that do not fit each other, the mesh or the task: found before the first stage starts, not after the last."""

from jax.sharding import Mesh

from stepjax.config import Config
from stepjax.errors import UserError
from stepjax.learners.ppo import check_groups, make_streams
from stepjax.parallel import batch_devices
from stepjax.rewards.signals import check_signals


def check_options(config: Config, mesh: Mesh) -> None:
    """UserError names the first misfit."""
    ppo = config.ppo
    responses = ppo.prompts * ppo.samples
    rows = {
        "sft.rows": config.sft.rows,
        "prm.rows": config.prm.rows,
        "ppo: prompts × samples": responses,
        "eval.rows": config.eval.rows,
    }
    devices = batch_devices(mesh)
    for name, count in rows.items():
        if count % devices:
            raise UserError(
                f"config.{name}: {count} rows do not divide over the mesh's data × fsdp = {devices} devices"
            )
    if responses % ppo.minibatches:
        raise UserError(
            f"config.ppo.minibatches: {ppo.minibatches} does not divide the {responses} responses of a round "
            "(ppo.prompts × ppo.samples)"
        )
    if 0 < ppo.dual_clip <= 1:
        raise UserError(f"config.ppo.dual_clip: must be above 1, or 0 for none, not {ppo.dual_clip}")
    if ppo.kl_target and not ppo.kl:
        raise UserError("config.ppo.kl: kl_target adapts it by factors, so it must start above 0")
    if ppo.critic_frozen and ppo.critic_warmup:
        raise UserError(
            f"config.ppo.critic_warmup: {ppo.critic_warmup} rounds would train nothing: critic_frozen is set"
        )
    if ppo.critic_warmup and not any(stream.critic for stream in make_streams(ppo.streams)):
        raise UserError(
            f"config.ppo.critic_warmup: {ppo.critic_warmup} rounds would train nothing: no stream has a critic"
        )
    if ppo.critic_refit and not any(stream.critic for stream in make_streams(ppo.streams)):
        raise UserError(f"config.ppo.critic_refit: {ppo.critic_refit}, but no stream has a critic to fit again")
    if ppo.critic_refit == 1:
        raise UserError("config.ppo.critic_refit: 1 would leave no round that trains the policy; it must be 2 or more")
    if ppo.critic_refit and ppo.critic_frozen:
        raise UserError(f"config.ppo.critic_refit: {ppo.critic_refit} and critic_frozen contradict each other")
    for name in ("ratio_guard", "mean_ratio_guard"):
        if 0 < getattr(ppo, name) <= 1:
            raise UserError(f"config.ppo.{name}: must be above 1, or 0 for none, not {getattr(ppo, name)}")
    check_signals(ppo.streams)
    make_streams(ppo.streams)
    check_groups(ppo)

"""Options that do not fit each other, the mesh or the task: found before the first stage starts, not after the last."""

from collections.abc import Mapping

from jax.sharding import Mesh

from stepjax.config import Config, PRMOptions, StreamOptions
from stepjax.errors import UserError
from stepjax.learners.ppo import check_groups, make_streams
from stepjax.models.lora import MODULES
from stepjax.parallel import batch_devices
from stepjax.rewards.check import check_signals
from stepjax.rewards.reward_streams import has_critic
from stepjax.runs.profile import profiled_steps


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
    if responses % (ppo.waves * batch_devices(mesh)):
        raise UserError(
            f"config.ppo.waves: {ppo.waves} waves on {batch_devices(mesh)} devices do not divide the {responses} "
            "responses of a round (ppo.prompts × ppo.samples)"
        )
    if ppo.stale and not ppo.importance_cap:
        raise UserError("config.ppo.importance_cap: stale rollouts need one; 2 is usual")
    if ppo.min_new_tokens >= ppo.max_new_tokens:
        raise UserError(
            f"config.ppo.min_new_tokens: {ppo.min_new_tokens} leaves no room for an end in max_new_tokens="
            f"{ppo.max_new_tokens}"
        )
    profiled_steps(config.profile)
    check_prm(config.prm)
    check_lora(config)
    check_public_prm(config.prm, ppo.streams)
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


def check_prm(prm: PRMOptions) -> None:
    """UserError where what the process reward model is to learn cannot be said by its outputs, or by the task."""
    if not prm.data:
        for name in ("objective", "neutral", "head_first"):
            if getattr(prm, name) != getattr(PRMOptions(), name):
                raise UserError(f"config.prm.{name}: it is for labelled data; name a dataset in config.prm.data")
        if prm.target == "outcome":
            raise UserError("config.prm.target=outcome: it is for labelled data; name a dataset in config.prm.data")
        if prm.classes == 2 and prm.target == "step":
            raise UserError("config.prm.classes=2: the task's neutral steps need the third class")
        return
    if prm.objective != "class" and prm.classes != 2:
        raise UserError(f"config.prm.objective={prm.objective}: it learns P(good) alone; set config.prm.classes=2")
    if prm.classes == 2 and prm.neutral == "own" and prm.target == "step":
        raise UserError("config.prm.neutral=own: with classes=2 neutral steps must be good, bad or skip")
    if prm.head_first >= prm.updates:
        raise UserError(f"config.prm.head_first={prm.head_first}: the trunk would never be trained; raise updates")


def check_public_prm(prm: PRMOptions, streams: Mapping[str, StreamOptions]) -> None:
    """UserError where a public process reward model is half named, or asked for what it cannot give."""
    if bool(prm.path) != bool(prm.convention):
        missing, given = ("convention", "path") if prm.path else ("path", "convention")
        raise UserError(f"config.prm.{missing}: it must be named where config.prm.{given} is; one says nothing alone")
    if prm.separator and prm.convention not in ("skywork", "trl"):
        raise UserError("config.prm.separator: only the conventions skywork and trl end steps with a separator")
    if prm.path and prm.data:
        raise UserError("config.prm.data: the model of config.prm.path is not trained; leave one of the two out")
    for name, stream in streams.items():
        if prm.path and has_critic(stream) and stream.critic_trunk == "prm":
            raise UserError(
                f"config.ppo.streams.{name}.critic_trunk: a public process reward model reads tokens of its own and "
                "cannot be the policy's critic; choose shared or own"
            )


def check_lora(config: Config) -> None:
    """UserError where adapters are put on what has none, or on stages that cannot have them."""
    lora, order = config.lora, ("sft", "prm", "ppo")
    if lora.path and not (lora.rank and config.model.path):
        raise UserError("config.lora.path: it needs lora.rank, and in model.path the checkpoint that it was made for")
    if not lora.rank:
        return
    if not lora.modules or not set(lora.modules) <= set(MODULES) or len(set(lora.modules)) < len(lora.modules):
        raise UserError(f"config.lora.modules: must name some of {', '.join(MODULES)}, each once")
    adapted = [stage for stage in order if stage in lora.stages]
    if not adapted or len(adapted) < len(lora.stages) or adapted != list(order[-len(adapted) :]):
        raise UserError(
            "config.lora.stages: must be ppo, or prm and ppo, or sft, prm and ppo: a stage without adapters cannot "
            "follow one with them"
        )
    if "prm" in adapted and not config.prm.from_sft and not config.prm.path:
        raise UserError("config.prm.from_sft: adapters of the process reward model stand on the SFT policy's weights")

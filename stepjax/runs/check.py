"""Options that do not fit each other, the mesh or the task: found before the first stage starts."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from jax.sharding import Mesh

from stepjax.config import Config, PPOOptions, PRMOptions, StreamOptions
from stepjax.errors import UserError
from stepjax.learners.implicit import rows_of_implicit_minibatch
from stepjax.learners.policy_losses import check_loss
from stepjax.learners.ppo import check_groups, make_streams
from stepjax.learners.train_on import parse_train_on
from stepjax.learners.update import rows_of_minibatch
from stepjax.models.lora import MODULES
from stepjax.parallel import batch_devices, row_groups, row_parts
from stepjax.rewards.check import check_signals
from stepjax.rewards.conventions import CONVENTIONS, SEPARATED
from stepjax.rewards.later import JudgeReward, MonteCarloReward
from stepjax.rewards.reward_streams import has_critic, reads_environment, reads_implicit
from stepjax.rewards.signal import Signal
from stepjax.rewards.signals import SIGNALS
from stepjax.rollout.program import cache_layout
from stepjax.rollout.talks import REPLY
from stepjax.row_parts import check_width
from stepjax.runs.carried_rounds import carried_shape
from stepjax.runs.ppo_programs import round_shape
from stepjax.runs.profile import profiled_steps
from stepjax.runs.step_judge import check_step_judge
from stepjax.tasks.registry import check_environment
from stepjax.workdir.sinks import chosen_sinks


def check_options(config: Config, mesh: Mesh) -> None:
    """UserError for the first option that does not fit."""
    ppo = config.ppo
    responses = ppo.prompts * ppo.samples
    check_rows(config, mesh)
    rows_of_minibatch(ppo, responses)
    check_signals(ppo.streams)  # before anything looks a signal up
    if reads_implicit(ppo.streams):
        rows_of_implicit_minibatch(ppo, responses)
    if responses % (ppo.waves * batch_devices(mesh)):
        raise UserError(
            f"config.ppo.waves: {ppo.waves} waves on {batch_devices(mesh)} devices do not divide the {responses} "
            "responses of a round (ppo.prompts × ppo.samples)"
        )
    shape = round_shape(ppo)
    cache_layout(carried_shape(ppo, shape, batch_devices(mesh)) if ppo.carry else shape, mesh)
    if ppo.stale and not ppo.importance_cap:
        raise UserError("config.ppo.importance_cap: stale rollouts need one; 2 is usual")
    check_carry(ppo)
    check_turns(config)
    if ppo.min_new_tokens >= ppo.max_new_tokens:
        raise UserError(
            f"config.ppo.min_new_tokens: {ppo.min_new_tokens} must be below max_new_tokens={ppo.max_new_tokens}"
        )
    profiled_steps(config.profile)
    chosen_sinks(config.log)
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
        raise UserError(f"config.ppo.critic_refit: {ppo.critic_refit}, but no stream has a critic")
    if ppo.critic_refit == 1:
        raise UserError("config.ppo.critic_refit: must be 0 or at least 2: with 1 no round would train the policy")
    if ppo.critic_refit and ppo.critic_frozen:
        raise UserError(f"config.ppo.critic_refit: {ppo.critic_refit} and critic_frozen contradict each other")
    for name in ("ratio_guard", "mean_ratio_guard"):
        if 0 < getattr(ppo, name) <= 1:
            raise UserError(f"config.ppo.{name}: must be above 1, or 0 for none, not {getattr(ppo, name)}")
    check_credit(ppo)


def check_rows(config: Config, mesh: Mesh) -> None:
    """UserError where a batch does not divide over the mesh, or a packed row into its parts."""
    responses, parts = config.ppo.prompts * config.ppo.samples, row_parts(mesh)
    whole = {"ppo: prompts × samples": responses, "eval.rows": config.eval.rows}
    stages = ("sft", "prm", *(("improve",) if "improve" in config.stages else ()))
    over = "data × fsdp" if parts == 1 else "data × fsdp × context"
    for stage in stages:
        check_packed(config, stage, mesh)
    for name, count in whole.items():
        _check_divides(name, count, over, batch_devices(mesh))


def check_packed(config: Config, stage: str, mesh: Mesh) -> None:
    """UserError where a stage's packed rows do not divide over the mesh, or one of them into its parts."""
    options = getattr(config, stage)
    _check_divides(f"{stage}.rows", options.rows, "data × fsdp", row_groups(mesh))
    check_width(options.row_tokens, row_parts(mesh), f"{stage}.row_tokens")


def _check_divides(name: str, count: int, axes: str, devices: int) -> None:
    if count % devices:
        raise UserError(f"config.{name}: {count} rows do not divide over the mesh's {axes} = {devices} devices")


def check_carry(ppo: PPOOptions) -> None:
    """UserError where something does not go with responses that are sampled over several rounds."""
    if not ppo.carry:
        return
    others = {
        "stale": (ppo.stale, "a round's rollout ends by what the host reads, so none can run ahead"),
        "waves": (ppo.waves > 1, "a round is one rollout that ends when enough responses have"),
        "refill": (ppo.refill > 0, "a round is one rollout, without further ones"),
        "environment": (ppo.environment, "a response goes on without the environment's pending reply"),
    }
    for name, (asked, why) in others.items():
        if asked:
            raise UserError(f"config.ppo.{name}: not with ppo.carry={ppo.carry}: {why}; leave one of the two out")
    if not ppo.importance_cap:
        raise UserError("config.ppo.importance_cap: carried responses need one; 2 is usual")


def check_turns(config: Config) -> None:
    """UserError where something does not go with an environment over turns, or needs one."""
    ppo, environment = config.ppo, config.environment
    streams = reads_environment(ppo.streams)
    if not environment.name:
        if changed := changed_fields(environment):
            raise UserError(f"config.environment.{changed[0]}: no environment is named; set config.environment.name")
        if streams:
            raise UserError(
                f"config.ppo.streams.{streams[0]}.signal=environment: no environment over turns rewards anything; name "
                "one in config.environment.name"
            )
        return
    check_environment(environment)
    others = {
        "environment": (ppo.environment, "only one environment answers a response"),
        "carry": (ppo.carry, "a round waits for the environments of all of its responses"),
        "stale": (ppo.stale, "the host leads such a rollout, so that none can run ahead"),
        "waves": (ppo.waves > 1, "the host leads such a rollout, one at a time"),
    }
    for name, (asked, why) in others.items():
        if asked:
            raise UserError(
                f"config.ppo.{name}: not with environment.name={environment.name}: {why}; leave one of the two out"
            )
    branching = [name for name, stream in ppo.streams.items() if SIGNALS[stream.signal].text_reward is MonteCarloReward]
    if branching:
        raise UserError(
            f"config.ppo.streams.{branching[0]}.signal=mc: completions would begin in the middle of an environment's "
            "turns, whose state is not known there; leave one of the two out"
        )
    if environment.template and REPLY not in environment.template:
        raise UserError(f"config.environment.template: it has no {REPLY}, where a reply would stand")
    if environment.reply_tokens >= ppo.max_new_tokens:
        raise UserError(
            f"config.environment.reply_tokens: {environment.reply_tokens} must be below "
            f"ppo.max_new_tokens={ppo.max_new_tokens}"
        )


def check_credit(ppo: PPOOptions) -> None:
    """UserError where the streams, or the options of the policy's loss, make no sense or do not fit each other."""
    check_loss(ppo)
    make_streams(ppo.streams)
    parse_train_on(ppo.train_on)
    check_groups(ppo)
    if any(SIGNALS[stream.signal].text_reward is JudgeReward for stream in ppo.streams.values()):
        check_step_judge(ppo.judge)
    check_sections(ppo)
    if ppo.implicit.train_on == "informative" and ppo.samples == 1:
        raise UserError(
            "config.ppo.implicit.train_on=informative: ppo.samples must be 2 or more responses to a problem, not 1"
        )


SECTIONS: dict[str, Callable[[Signal], bool]] = {
    "implicit": lambda signal: signal.implicit,
    "judge": lambda signal: signal.text_reward is JudgeReward,
    "mc": lambda signal: signal.text_reward is MonteCarloReward,
}
"""The sections of `config.ppo` that streams of one signal read, and that signal, which has the section's name."""


def check_sections(ppo: PPOOptions) -> None:
    """UserError where an option of a section is set whose signal no stream has: it would be ignored in silence."""
    for section, reads in SECTIONS.items():
        options = getattr(ppo, section)
        changed = changed_fields(options)
        if changed and not any(reads(SIGNALS[stream.signal]) for stream in ppo.streams.values()):
            raise UserError(
                f"config.ppo.{section}.{changed[0]}: no stream has signal={section}, so that nothing would read it"
            )


def changed_fields(options: Any) -> list[str]:
    """Names of a section's fields that do not have the section's own defaults."""
    default = type(options)()
    return [f.name for f in dataclasses.fields(options) if getattr(options, f.name) != getattr(default, f.name)]


def check_prm(prm: PRMOptions) -> None:
    """UserError where the process reward model's outputs, or the task, do not fit its target."""
    if not prm.data:
        for name in ("objective", "neutral", "head_first"):
            if getattr(prm, name) != getattr(PRMOptions(), name):
                raise UserError(f"config.prm.{name}: it needs labelled data; name a dataset in config.prm.data")
        if prm.target == "outcome":
            raise UserError("config.prm.target=outcome: it needs labelled data; name a dataset in config.prm.data")
        if prm.classes == 2 and prm.target == "step":
            raise UserError("config.prm.classes=2: the task's neutral steps need the third class")
        return
    if prm.objective != "class" and prm.classes != 2:
        raise UserError(f"config.prm.objective={prm.objective}: it trains only P(good); set config.prm.classes=2")
    if prm.classes == 2 and prm.neutral == "own" and prm.target == "step":
        raise UserError("config.prm.neutral=own: with classes=2 neutral steps must be good, bad or skip")
    if prm.head_first >= prm.updates:
        raise UserError(f"config.prm.head_first={prm.head_first}: the trunk would never be trained; raise updates")


def check_public_prm(prm: PRMOptions, streams: Mapping[str, StreamOptions]) -> None:
    """UserError where the options of a public process reward model are incomplete or not supported."""
    if bool(prm.path) != bool(prm.convention):
        missing, given = ("convention", "path") if prm.path else ("path", "convention")
        raise UserError(f"config.prm.{missing}: required together with config.prm.{given}")
    separated = [name for name, convention in CONVENTIONS.items() if convention.layout == SEPARATED]
    if prm.separator and prm.convention not in separated:
        raise UserError(
            f"config.prm.separator: only the conventions {' and '.join(separated)} end steps with a separator"
        )
    if prm.path and prm.data:
        raise UserError("config.prm.data: the model of config.prm.path is not trained; leave one of the two out")
    for name, stream in streams.items():
        if prm.path and has_critic(stream) and stream.critic_trunk == "prm":
            raise UserError(
                f"config.ppo.streams.{name}.critic_trunk: a public process reward model reads tokens of its own and "
                "cannot be the policy's critic; choose shared or own"
            )


def check_lora(config: Config) -> None:
    """UserError where the options of the adapters do not fit the model or the stages."""
    lora, order = config.lora, ("sft", "prm", "ppo")
    if lora.path and not (lora.rank and config.model.path):
        raise UserError(
            "config.lora.path: it needs lora.rank, and model.path with the checkpoint that the adapter was made for"
        )
    if not lora.rank:
        return
    if not lora.modules or not set(lora.modules) <= set(MODULES) or len(set(lora.modules)) < len(lora.modules):
        raise UserError(f"config.lora.modules: must name some of {', '.join(MODULES)}, each once")
    chosen = [stage for stage in lora.stages if stage != "improve"]  # ppo starts beside it, not from it
    adapted = [stage for stage in order if stage in chosen]
    if not adapted or len(adapted) < len(chosen) or adapted != list(order[-len(adapted) :]):
        raise UserError(
            "config.lora.stages: must be ppo, or prm and ppo, or sft, prm and ppo (and improve, where it has some): a "
            "stage without adapters cannot follow one with them"
        )
    if "prm" in adapted and not config.prm.from_sft and not config.prm.path:
        raise UserError(
            "config.prm.from_sft: must be True where the process reward model has adapters: they are trained on the "
            "SFT policy's weights"
        )

"""Streams whose options do not fit their signal: one line that names the option and what it needs."""

from collections.abc import Mapping

from stepjax.config import StreamOptions
from stepjax.config.streams import check_unread
from stepjax.errors import UserError, nearest
from stepjax.rewards.reward_streams import has_critic, make_text_reward
from stepjax.rewards.shaping_chain import parse_shaping
from stepjax.rewards.signals import SIGNALS


def check_signals(streams: Mapping[str, StreamOptions]) -> None:
    """UserError for the first stream whose signal does not exist, or whose options do not fit it."""
    if not streams:
        raise UserError("config.ppo.streams: name at least one reward stream")
    for name, options in streams.items():
        _check_stream(options, f"config.ppo.streams.{name}")
        make_text_reward(name, options)


def _check_stream(options: StreamOptions, where: str) -> None:
    """UserError names the first misfit of a stream, whose section is `where`."""
    if not options.signal:
        raise UserError(f"{where}.signal: names no signal{nearest(options.signal, SIGNALS)}")
    if options.signal not in SIGNALS:
        raise UserError(f"{where}.signal: no signal {options.signal!r}{nearest(options.signal, SIGNALS)}")
    check_unread(options, "signal", SIGNALS, where)
    _check_needs(options, where)
    if options.kl_target and options.weight <= 0:
        raise UserError(f"{where}.weight: kl_target adapts it by factors, so it must start above 0")
    if options.critic_trunk != "shared" and not has_critic(options):
        raise UserError(
            f"{where}.critic_trunk: the stream has no critic; only estimator gae (or baseline=critic) has one, with "
            "critic=True"
        )
    _check_shaping(options, where)


def _check_needs(options: StreamOptions, where: str) -> None:
    """What the stream's signal asks of its options."""
    signal = SIGNALS[options.signal]
    for name, meaning in signal.needs.items():
        if not getattr(options, name):
            raise UserError(f"{where}.{name}: signal {options.signal} needs it: {meaning}")
    if options.per == "token" and "per" in signal.options and signal.token_place is None:
        raise UserError(f"{where}.per: signal {options.signal} rewards each step or the response, not each token")
    if signal.check is not None:
        signal.check(options, where)


def _check_shaping(options: StreamOptions, where: str) -> None:
    for text in options.shaping:
        parse_shaping(text, f"{where}.shaping")
    signal = SIGNALS[options.signal]
    if options.shaping and not signal.shapeable:
        raise UserError(
            f"{where}.shaping: signal {options.signal} has nothing to shape; its rewards are `good` and `bad`"
        )
    for text in options.shaping:
        if not signal.place_of(options).of_steps and text.partition(":")[0].strip() != "bound":
            raise UserError(
                f"{where}.shaping: {text!r} shapes the scores of steps, which signal {options.signal} does not give; "
                "bound:LOW:HIGH is possible"
            )

"""Streams whose options do not fit their signal: one line that names the option and what it needs."""

import dataclasses
from collections.abc import Iterable

from stepjax.config import StreamOptions
from stepjax.errors import UserError
from stepjax.rewards.shaping_chain import parse_shaping

READ_BY = {
    "kl_kind": ("kl",),
    "kl_target": ("kl",),
    "per": ("length", "format"),
    "least": ("length",),
    "most": ("length",),
    "token_cost": ("length",),
    "pattern": ("format",),
    "function": ("function",),
}
"""Options that only some signals read: set for another one, they would silently be ignored."""

NEEDED = {
    "format": ("pattern", "a regular expression that each text must match"),
    "function": ("function", "package.module:function"),
}


def check_stream(name: str, options: StreamOptions, signals: Iterable[str]) -> None:
    """UserError for the first option of the stream `name` that does not fit."""
    from stepjax.errors import nearest

    where, signal = f"config.ppo.streams.{name}", options.signal
    if not signal:
        raise UserError(f"{where}.signal: names no signal{nearest(signal, signals)}")
    if signal not in signals:
        raise UserError(f"{where}.signal: no signal {signal!r}{nearest(signal, signals)}")
    for field in dataclasses.fields(StreamOptions):
        readers = READ_BY.get(field.name)
        if readers and signal not in readers and getattr(options, field.name) != field.default:
            raise UserError(f"{where}.{field.name}: only signal {' or '.join(readers)} reads it, not {signal}")
    if signal in NEEDED:
        field_name, meaning = NEEDED[signal]
        if not getattr(options, field_name):
            raise UserError(f"{where}.{field_name}: signal {signal} needs it: {meaning}")
    if signal == "length":
        _check_band(options, where)
    if options.kl_target and options.weight <= 0:
        raise UserError(f"{where}.weight: kl_target adapts it by factors, so it must start above 0")
    if options.critic_trunk != "shared" and (options.estimator != "gae" or not options.critic):
        raise UserError(f"{where}.critic_trunk: the stream has no critic; only estimator gae has one, with critic=True")
    _check_shaping(options, where)


def _check_band(options: StreamOptions, where: str) -> None:
    if not options.least and not options.most:
        raise UserError(f"{where}: signal length needs a band: set least, most or both, in tokens")
    if options.most and options.least > options.most:
        raise UserError(f"{where}.least: {options.least} tokens is above most={options.most}")


def _check_shaping(options: StreamOptions, where: str) -> None:
    for text in options.shaping:
        parse_shaping(text, f"{where}.shaping")
    if options.shaping and options.signal == "limit":
        raise UserError(f"{where}.shaping: signal limit has nothing to shape; its rewards are `good` and `bad`")
    single = options.signal in ("outcome", "orm", "finish", "kl") or options.per == "response"
    for text in options.shaping:
        if single and text.partition(":")[0].strip() != "bound":
            raise UserError(
                f"{where}.shaping: {text!r} shapes the scores of steps, which signal {options.signal} does not give; "
                "bound:LOW:HIGH is possible"
            )

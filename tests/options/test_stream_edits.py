"""Reward streams that a command line adds and removes."""

import pytest

from stepjax.config import StreamOptions
from stepjax.errors import UserError
from stepjax.options import parse

P = "--config.ppo.streams."


def streams(*argv: str, section: str = "", told: list[str] | None = None) -> dict[str, StreamOptions]:
    return parse(argv, section, tell=(told if told is not None else []).append).config.ppo.streams


def test_a_signal_makes_a_stream_and_none_removes_one():
    process, told = streams()["process"], list[str]()
    outcome = StreamOptions(signal="outcome", horizon="response", weight=0.5)
    line = (f"{P}outcome.weight=0.5", f"{P}outcome.signal=outcome", f"{P}outcome.horizon=response")
    assert streams(*line, told=told) == {"outcome": outcome, "process": process}
    assert told == ["reward streams: outcome (new), process"]
    assert streams(*line, f"{P}process=none") == {"outcome": outcome}
    short = [argument.replace("ppo.", "") for argument in (*line, f"{P}process=none")]
    assert streams(*short, section="ppo") == {"outcome": outcome}
    assert streams(f"{P}process=none", f"{P}process.signal=kl") == {"process": StreamOptions(signal="kl")}


def test_options_of_streams_that_are_there_make_none():
    told = list[str]()
    assert list(streams(f"{P}process.signal=verifier", f"{P}process.weight=2", told=told)) == ["process"]
    assert not told


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["proces=none"], "streams.proces=none: no such reward stream (did you mean 'process'?)"),
        (
            ["proces.weight=2"],
            "did you mean 'process'?); a new one needs its signal, as in --config.ppo.streams.proces.",
        ),
        (["mine.signal=kl", "mine.wieght=2"], "did you mean '--config.ppo.streams.mine.weight'?"),
        (["process=3"], "--config.ppo.streams.process=none removes the stream"),
        (["a b.signal=kl"], "a stream's name has letters"),
        (["process=none", "process.weight=2"], "process.weight: no such reward stream"),
    ],
)
def test_mistakes_are_one_line(arguments, why):
    with pytest.raises(UserError) as error:
        streams(*(P + argument for argument in arguments))
    assert why in str(error.value) and "\n" not in str(error.value)

"""An environment that answers over turns."""

from dataclasses import dataclass

from stepjax.config.option import option

ENVIRONMENT_NAMES = ("calculator", "guess", "lookup")
"""The modules of `stepjax.tasks` that have a `TURNS`."""


@dataclass(frozen=True)
class EnvironmentOptions:
    name: str = option(
        "",
        "environment that answers a response over turns: guess (a number, with hints), lookup (sentences of the "
        "problem's text), calculator (GSM8K's notes) or a class of yours, `package.module:Class`; empty: none",
    )
    options: tuple[str, ...] = option(
        (), "keyword arguments of the class, NAME=VALUE each; a VALUE that is JSON is read as JSON, any other is a text"
    )
    turns: int = option(
        0, "most turns of a response; one that needs more is truncated. 0: as many as its tokens allow", least=0
    )
    turn_tokens: int = option(
        0, "most tokens of a turn; a longer one is answered as far as it goes. 0: as many as the response has", least=0
    )
    reply_tokens: int = option(32, "longest reply, tokens; a longer one ends the response", least=1)
    fed_tokens: int = option(
        64,
        "longest reply that a response reads in its slot, a token a step, behind what the cache holds of it; with a "
        "longer one all that it has is prefilled again, as where the cache had no room for it. 0: always",
        least=0,
        resumable=True,
    )
    seconds: float = option(30.0, "longest that a reply may take; a later one ends the response", above=0)
    template: str = option(
        "",
        "what is written of a reply, with {reply} in its place; empty: the next turn of the chat template, where "
        "prompts have one, else the reply alone",
    )
    processes: int = option(
        1, "processes that run environments, for each process of the run", least=1, most=256, resumable=True
    )
    calls: int = option(64, "replies that each of them works on at a time", least=1, most=4096, resumable=True)
    steps: int = option(
        16,
        "decoding steps between two looks at which turns have ended and which replies are there",
        least=1,
        resumable=True,
    )

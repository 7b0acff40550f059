"""RegisterChain's programs run the slow way, and the ratings of a response's steps in short."""

from stepjax.tasks.register_chain import (
    rate_steps,
)
from stepjax.tasks.register_chain.parser import RegisterRating
from stepjax.tasks.register_chain.program import parse_program

KINDS = ("derive", "unneeded", "repeat", "restate", "repair", "leap", "answer", "malformed", "after")
"""What a rating's `kind` can be."""


def reference_values(prompt: str, modulus: int) -> tuple[dict[str, int], str]:
    """Runs a prompt the slow, plain way."""
    *lines, query = prompt.rstrip("\n").split(";")
    values: dict[str, int] = {}
    for line in lines:
        name, right_side = line.split("=")
        for sign in "+-*":
            if sign in right_side:
                x, y = (values[o] if o in values else int(o) for o in right_side.split(sign))
                values[name] = {"+": x + y, "-": x - y, "*": x * y}[sign] % modulus
                break
        else:
            values[name] = int(right_side)
    return values, query[1:]


def rated(prompt: str, response: str, rating: str = "global", modulus: int = 10) -> list[RegisterRating]:
    return rate_steps(parse_program(prompt, modulus), response.split("\n"), rating)


def table(prompt: str, response: str, rating: str = "global") -> str:
    """A step_rating a step as "kind+", "kind0" or "kind-"."""
    return " ".join(j.kind + "-0+"[j.rating + 1] for j in rated(prompt, response, rating))

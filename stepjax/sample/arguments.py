"""What `stepjax sample` takes beside the options of a config: a problem of the user's, and its answer."""

from collections.abc import Sequence

from stepjax.errors import UserError

PROBLEM, ANSWER = "--problem", "--answer"


def take_problem(argv: Sequence[str]) -> tuple[str | None, str, list[str]]:
    """The problem that a command line asks about (None: it asks about none), its answer (""), and what is left.

    The text may follow a space. UserError where it is missing, or where there is an answer and no problem.
    """
    given: dict[str, str] = {}
    left, rest = [], iter(argv)
    for argument in rest:
        name, equals, text = argument.partition("=")
        if name not in (PROBLEM, ANSWER):
            left.append(argument)
            continue
        given[name] = text if equals else next(rest, "")
        if not given[name].strip():
            raise UserError(f'{name}: no text; it is written {name}="…"')
    if ANSWER in given and PROBLEM not in given:
        raise UserError(f'{ANSWER}: it is the answer to a {PROBLEM}="…"')
    return given.get(PROBLEM), given.get(ANSWER, ""), left

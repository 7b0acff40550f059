"""`--accept-changed` on a command line."""

import difflib
from collections.abc import Sequence

from stepjax.errors import UserError
from stepjax.workdir.fingerprints import ACCEPT


def take_accept(argv: Sequence[str]) -> tuple[bool, list[str]]:
    """Whether the user goes on with files that were changed, and the other arguments. UserError for a misspelling."""
    for argument in argv:
        name = argument.partition("=")[0]
        if name != argument and name == ACCEPT:
            raise UserError(f"{argument}: it takes no value; write {ACCEPT}")
        if name != ACCEPT and difflib.get_close_matches(name, [ACCEPT], cutoff=0.8):
            raise UserError(f"{argument}: no such option (did you mean '{ACCEPT}'?)")
    return ACCEPT in argv, [argument for argument in argv if argument != ACCEPT]

"""A study as a command: `python -m stepjax.studies.NAME`."""

import sys
from collections.abc import Callable

from stepjax.errors import UserError


def run_main(main: Callable[[list[str]], None]) -> None:
    """Runs a study with the command line's arguments; a mistake of theirs is one line and exit status 2."""
    try:
        main(sys.argv[1:])
    except UserError as error:
        print(f"stepjax: {error}", file=sys.stderr)
        sys.exit(2)

"""A study as a command: `python -m stepjax.studies.NAME`."""

import sys
from collections.abc import Callable

from stepjax.errors import UserError


def run_main(main: Callable[[list[str]], None]) -> None:
    """Runs a study with the command line's arguments; a UserError is one line and exit status 2."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print((sys.modules["__main__"].__doc__ or "").strip())
        return
    try:
        main(sys.argv[1:])
    except UserError as error:
        print(f"stepjax: {error}", file=sys.stderr)
        sys.exit(2)

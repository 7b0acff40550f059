"""A study as a command: `python -m stepjax.studies.NAME`."""

import sys
from collections.abc import Callable

from stepjax.console.ending import failed


def run_main(main: Callable[[list[str]], None]) -> None:
    """Runs a study with the command line's arguments; what a user can mend is one line and exit status 2."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print((sys.modules["__main__"].__doc__ or "").strip())
        return
    try:
        main(sys.argv[1:])
    except (Exception, KeyboardInterrupt) as error:
        sys.exit(failed(error))

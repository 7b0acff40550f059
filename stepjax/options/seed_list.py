"""Seeds on a command line."""

import re

from stepjax.errors import UserError

MOST = 10_000
"""Seeds of a span."""


def seeds_of(argument: str) -> list[int]:
    """`--seeds=0,1,4` or `--seeds=0:5` (0 to 4) → the seeds. UserError for anything else, and for a seed twice."""
    text = argument.partition("=")[2]
    span = re.fullmatch(r"(\d{1,9}):(\d{1,9})", text)
    parts = [part.strip() for part in text.split(",")]
    if span and int(span[2]) - int(span[1]) <= MOST:
        seeds = list(range(int(span[1]), int(span[2])))
    else:
        seeds = [int(part) for part in parts] if all(re.fullmatch(r"[0-9]{1,9}", part) for part in parts) else []
    if not seeds or len(set(seeds)) < len(seeds):
        raise UserError(f"{argument}: name different whole numbers, as in --seeds=0,1,2 or --seeds=0:5 (0 to 4)")
    return seeds

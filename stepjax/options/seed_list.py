"""Seeds on a command line, and how many runs there are at a time."""

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


def jobs_of(argument: str) -> int:
    """`--jobs=2` → 2. UserError for anything but a positive number."""
    text = argument.partition("=")[2]
    if not re.fullmatch(r"[1-9]\d{0,3}", text):
        raise UserError(f"{argument}: name how many runs there are at a time, as in --jobs=2")
    return int(text)

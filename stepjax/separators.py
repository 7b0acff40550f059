"""What a step separator matches: itself, with each line feed also written as `\\r\\n`.

Models that were trained on texts of several systems write both line ends, and a blank line is a blank line. A separator
that spells a carriage return itself matches only itself.
"""

import functools
import re

CR, LF = 13, 10


def skips_returns(separator: bytes) -> bool:
    """Whether a carriage return before a line feed counts as nothing where this separator is looked for."""
    return LF in separator and CR not in separator


@functools.cache
def separator_pattern(separator: str) -> re.Pattern[str]:
    """Matches the separator in a text."""
    literal = re.escape(separator)
    return re.compile(literal.replace("\\\n", "\r?\n") if skips_returns(separator.encode()) else literal)


@functools.cache
def separator_bytes(separator: bytes) -> re.Pattern[bytes]:
    """Matches the separator in the bytes of a text."""
    literal = re.escape(separator)
    return re.compile(literal.replace(b"\\\n", b"\r?\n") if skips_returns(separator) else literal)

"""What a step separator matches: itself, with each line feed also written as `\\r\\n`.

Models that were trained on texts of several systems write both line ends, and a blank line is a blank line. A separator
that spells a carriage return itself matches only itself.
"""

import functools
import re

import numpy as np

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


def matcher(separator: bytes) -> tuple[np.ndarray, list[int]]:
    """`(next int32[M, 256], matched)`: Knuth-Morris-Pratt. `matched[state]`: bytes of the separator matched; M: all.

    The states that follow the first `len(separator)` are those in which a carriage return has followed the matched
    bytes, where a line feed would go on with the separator as if the return were not there.
    """
    size = len(separator)
    match = np.zeros((size, 256), np.int32)  # match[k, byte]: bytes matched after the byte, k before it
    match[0, separator[0]] = 1
    border = 0
    for k in range(1, size):
        match[k] = match[border]
        match[k, separator[k]] = k + 1
        border = match[border, separator[k]]
    matched = list(range(size))
    if skips_returns(separator):
        returned = [k for k in range(size) if match[k, LF] != match[0, LF]]  # elsewhere the match is lost as at 0
        after = np.repeat(match[:1], len(returned), axis=0)
        after[:, LF] = match[returned, LF]
        match[returned, CR] = size + 1 + np.arange(len(returned))
        match = np.concatenate([match, after])
        matched += returned
    # So far `size` is the whole separator, and the states after it are one too high.
    return np.where(match == size, len(matched), match - (match > size)), matched

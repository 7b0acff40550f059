"""Numbers that the host knows of steps or responses, put on tokens."""

from collections.abc import Sequence

import numpy as np


def by_token(
    numbers: Sequence[np.ndarray | None], index: np.ndarray, end: np.ndarray, *, columns: tuple[int, ...] = ()
) -> np.ndarray:
    """Puts numbers on tokens: those of a step on its last one, those of a response on the response's last one.

    A step without a token of its own (it began and ended inside of a token of an earlier step) has no place.

    Args:
      numbers: of each of B responses, [S, *columns] with one entry a step, or [*columns] for the response as a whole;
        None: nothing is known of it.
      index: int[B, T], the step of each token, −1 outside of responses.
      end: bool[B, T], the last token of each step.
      columns: of each entry; (): single numbers.

    Returns:
      float32[B, T, *columns], 0 elsewhere.
    """
    found = np.zeros((*index.shape, *columns), np.float32)
    for i, of_one in enumerate(numbers):
        if of_one is None:
            continue
        at = np.flatnonzero(end[i])
        if of_one.ndim == len(columns):
            found[i, at[-1:]] = of_one
        elif len(of_one):
            found[i, at] = of_one[np.minimum(index[i, at], len(of_one) - 1)]
    return found

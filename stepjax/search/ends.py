"""What a rollout's row came to, as an answer to a search: its tokens, and what ended it."""

import numpy as np

from stepjax.rollout.paused import Seen
from stepjax.search.ask import End, Sampled


def sampled(seen: Seen, row: int, ids: np.ndarray, logprobs: np.ndarray, longest: int) -> Sampled:
    """The continuation in a row that ended.

    Args:
      seen: on the host.
      ids, logprobs: of the continuation, without what it went on behind.
      longest: tokens of the longest response; a step that is complete with the last of them is cut, as nothing goes on.
    """
    assert seen.by_stop is not None
    end = End.CUT
    if seen.finished[row] and not seen.by_stop[row]:
        end = End.RESPONSE
    elif seen.by_stop[row] and seen.length[row] < longest:
        end = End.STEP
    return Sampled(tuple(ids.tolist()), tuple(logprobs.tolist()), end)

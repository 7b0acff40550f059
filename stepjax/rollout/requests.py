"""The input of the rollout program: prompts, once for each device that has rows of them, and the queue of rows."""

from collections.abc import Sequence

import numpy as np

from stepjax.rollout.program import RolloutShape, on_device
from stepjax.rollout.slots import Queue


def request(
    prompts: Sequence[Sequence[int]],
    rows: Sequence[int] | np.ndarray,
    ids: np.ndarray,
    limits: np.ndarray | None,
    shape: RolloutShape,
    devices: int,
    cuts: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, Queue]:
    """Each device's prompts once, short ones first, and the rows to sample.

    Args:
      prompts: token ids of each prompt, `shape.prompt_width` at most.
      rows: of each response the number of its prompt, `shape.rows` at most.
      ids: int[N], the numbers that name the rows' random keys.
      limits: int[N], tokens that each row has at most; None: `shape.new_tokens`.
      devices: along the batch.
      cuts: int[N], tokens at its prompt's end that each row does without, where the shape is branched.

    Returns:
      (prompts int32[Q, P], padded on the left; their lengths int32[Q]; the queue).
    """
    each, count = on_device(shape, devices), len(rows)
    if count > shape.rows:
        raise ValueError(f"{count} rows, but the rollout is compiled for {shape.rows}")
    tokens = np.zeros((devices * each.prompts, shape.prompt_width), np.int32)
    lengths = np.zeros(devices * each.prompts, np.int32)
    place_of, numbers, longest = (np.zeros(shape.rows, np.int32) for _ in range(3))
    numbers[:count] = ids
    longest[:count] = shape.new_tokens if limits is None else limits
    for device in range(devices):
        own = slice(device * each.rows, min((device + 1) * each.rows, count))
        different = sorted(set(np.asarray(rows[own]).tolist()), key=lambda r: (len(prompts[r]), r))
        for i, row in enumerate(different):
            at, length = device * each.prompts + i, len(prompts[row])
            tokens[at, shape.prompt_width - length :], lengths[at] = prompts[row], length
        place = {row: i for i, row in enumerate(different)}
        place_of[own] = [place[row] for row in np.asarray(rows[own]).tolist()]
    without = None if cuts is None else np.concatenate([cuts, np.zeros(shape.rows - count)]).astype(np.int32)
    queue = Queue(place_of, numbers, longest, without)  # type: ignore[arg-type]
    return tokens, lengths, queue

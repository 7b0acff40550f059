"""Agreement among several processes."""

from collections.abc import Sequence

import jax
import numpy as np

from stepjax.distributed.meet import meet
from stepjax.distributed.watch import activity


def agree(value: int) -> int:
    """Process 0's value, on every process; waits for all of them."""
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    meet("agree")
    with activity.wait(), jax.transfer_guard("allow"):
        return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def agree_on(values: Sequence[float]) -> list[float]:
    """Process 0's values, on every process, rounded to single precision; waits for all of them."""
    if jax.process_count() == 1:
        return list(values)
    from jax.experimental import multihost_utils

    meet("agree on values")
    with activity.wait(), jax.transfer_guard("allow"):
        return np.asarray(multihost_utils.broadcast_one_to_all(np.asarray(values, np.float32))).tolist()


def all_agree(value: bool) -> bool:
    """True where it is true on every process; waits for all of them."""
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    meet("all_agree")
    with activity.wait(), jax.transfer_guard("allow"):
        return bool(np.all(multihost_utils.process_allgather(np.asarray(value))))

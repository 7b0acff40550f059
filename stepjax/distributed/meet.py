"""A barrier between processes whose work on the host takes different times."""

import itertools

import jax

from stepjax.distributed.watch import activity

LONGEST_SECONDS = 24 * 3600
"""Seconds; a lost process or a straggler ends the run long before (`watch`)."""

_count = itertools.count()


def meet(what: str) -> None:
    """Waits for every process; all must call it, in the same order. It does nothing for a single process.

    Called before anything that makes one process wait for another on a device: collectives over sockets give up after
    half a minute, and a host that compiles, reads or rates may well come later than that.
    """
    if not jax.distributed.is_initialized():
        return
    from jax._src import distributed

    client = distributed.global_state.client
    assert client is not None
    with activity.wait():
        client.wait_at_barrier(f"stepjax/meet/{next(_count)}/{what}", 1000 * LONGEST_SECONDS)


def impatient() -> bool:
    """Whether every collective, not only the first of its kind, gives up waiting: those of CPU devices do."""
    return jax.distributed.is_initialized() and jax.default_backend() == "cpu"

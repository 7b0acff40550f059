"""The lifetime of one process of a run: joining the others, heartbeats, requests to stop, leaving in order."""

import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import jax

from stepjax.config import DistributedOptions
from stepjax.distributed import stop as stopping
from stepjax.distributed.notices import watch_notices
from stepjax.distributed.signals import INTERRUPTED, heard
from stepjax.distributed.start import find_place, join
from stepjax.distributed.watch import COMMUNICATION, LOST, Watch, activity
from stepjax.errors import Stopped

_watch: Watch | None = None
_ending = threading.Lock()


@contextmanager
def session(options: DistributedOptions) -> Iterator[None]:
    """A run inside of it is joined to the other processes, if there are any, and can be told to stop."""
    global _watch
    place = find_place(options)
    if place is not None and not jax.distributed.is_initialized():
        join(place, options)
    processes = jax.process_count() if place is not None else 1
    stop = stopping.current = stopping.Stop(processes)
    over = threading.Event()
    if processes > 1:
        from jax._src import distributed

        state = distributed.global_state
        _watch = Watch(
            state.client,
            state.process_id,
            processes,
            coordinator=str(state.coordinator_address),
            timeout=options.timeout,
            stall=options.stall,
            stop=stop,
            end=end,
        )
        _watch.start()
    threading.Thread(target=_keep_promise, args=(stop, options.grace, over), name="grace", daemon=True).start()
    try:
        calls = {signal.SIGTERM: lambda: stop.request("SIGTERM"), signal.SIGINT: _keyboard(stop)}
        with heard(calls):
            watch_notices(stop.request, over)
            try:
                yield
            except Stopped:
                _part()
                raise
            _part()
    finally:
        over.set()


def _keyboard(stop: stopping.Stop) -> Callable[[], None]:
    """What Ctrl-C does: the first one at this process asks to stop, the second one ends it at once."""
    presses = itertools.count(1)

    def interrupt() -> None:
        name = stopping.INTERRUPT
        if next(presses) > 1:
            end(INTERRUPTED, f"{name} again: ended at once; the same command continues from the last checkpoint")
        stop.request(name)
        if stop.reason == name and stop.inside and (_watch is None or jax.process_index() == 0):
            told = "the run ends when its step is done and saved, after a compilation if need be; again: at once"
            print(f"stepjax: {name}: {told}", file=sys.stderr, flush=True)

    return interrupt


def _keep_promise(stop: stopping.Stop, grace: float, over: threading.Event) -> None:
    """Ends a process that was asked to stop: at once where there is nothing to save, else after the time of grace.

    Nobody kills the process after Ctrl-C: it may take as long as its step takes.
    """
    while not over.wait(0.2):
        if stop.reason is None:
            continue
        if not stop.inside:
            # A loop that has just begun or ended may be about to save, or to say so.
            time.sleep(0.5)
            if not stop.inside and not over.is_set():
                status = INTERRUPTED if stop.interrupted else LOST
                end(status, f"{stop.reason}: stopped; the same command continues")
        elif not stop.interrupted and time.monotonic() - stop.asked > grace:
            text = f"{stop.reason}: no step was done and saved within {grace:.0f} s"
            end(LOST, f"{text}; the same command continues from the last checkpoint")


def _part() -> None:
    """Waits until every process is done, then disconnects: the first to leave must not look like a lost one."""
    global _watch
    if _watch is None:
        return
    activity.now("the end")
    with activity.wait():
        _watch.publish(done=True)
        while not _watch.every("done"):
            time.sleep(0.05)
            _watch.publish()
    _watch.close()
    _watch = None
    jax.distributed.shutdown()


def end(status: int, reason: str) -> None:
    """Prints the reason and ends this process now, from any thread; the others receive it and end, too."""
    if not _ending.acquire(blocking=False):
        threading.Event().wait()  # another thread is doing it
    print(f"stepjax: {reason}", file=sys.stderr, flush=True)
    if _watch is not None:
        _leave(_watch, status, reason)
    _flush()
    os._exit(status)


def leave(status: int, reason: str) -> None:
    """Ends a process that failed, if there are others: JAX's own shutdown would wait for them. Returns where not."""
    if _watch is not None:
        if not _ending.acquire(blocking=False):
            threading.Event().wait()
        _leave(_watch, status, reason)
        _flush()
        os._exit(status)


def _leave(watch: Watch, status: int, reason: str) -> None:
    """Publishes the reason to the others."""
    tell = threading.Thread(target=_tell, args=(watch, status, reason), daemon=True)
    tell.start()
    tell.join(2.0)
    if jax.process_index() == 0:
        # The service lives in this process: it stays until the others have read the reason.
        limit = time.monotonic() + 3 * watch.period + 2.0
        while time.monotonic() < limit and not watch.every("end", lost=True):
            time.sleep(0.05)


def _tell(watch: Watch, status: int, reason: str) -> None:
    try:
        watch.publish(end=[status, reason])
    except Exception:  # the service is gone: the others notice by themselves
        return


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue


def explain(error: BaseException) -> None:
    """Where an error may come from the loss of another process, waits for the watch to name it and end this one."""
    text = str(error).lower()
    if _watch is None or not any(word in text for word in COMMUNICATION):
        return
    _watch.suspect()
    time.sleep(_watch.patience + 2 * _watch.period + 1.0)
    if _ending.locked():
        threading.Event().wait()


def others() -> bool:
    """Whether this process is one of several that are watched."""
    return _watch is not None

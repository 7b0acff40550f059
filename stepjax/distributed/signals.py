"""Signals that are heard while the main thread is deep in a computation: SIGTERM and Ctrl-C."""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping

INTERRUPTED = 130
"""Exit status of a command that Ctrl-C ended: 128 + the signal's number, as shells have it."""


@contextlib.contextmanager
def heard(
    calls: Mapping[signal.Signals, Callable[[], object]], handlers: Mapping[signal.Signals, Callable] | None = None
) -> Iterator[None]:
    """Inside, a signal of these numbers calls its function, in a thread, instead of what it did before.

    The call comes from a thread that waits at Python's wake-up socket: the main thread may be in a computation or a
    compilation, where it would not see the signal before the end of it. Not in the main thread, nothing is changed.

    Args:
      handlers: what the main thread does, besides, once it sees a signal; nothing by default.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    read, write = socket.socketpair()
    write.setblocking(False)
    before = {n: signal.signal(n, (handlers or {}).get(n, lambda *_: None)) for n in calls}
    old = signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)

    def wait() -> None:
        while numbers := read.recv(64):
            for number in numbers:
                if number in calls:
                    calls[signal.Signals(number)]()

    thread = threading.Thread(target=wait, name="signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(old)
        for number, handler in before.items():
            # None: it was not Python that handled it.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        write.close()
        thread.join(1.0)
        read.close()


@contextlib.contextmanager
def second_interrupt_ends() -> Iterator[None]:
    """Inside, the first Ctrl-C raises KeyboardInterrupt once the main thread sees it; the second ends the process."""
    count = 0

    def interrupt() -> None:
        nonlocal count
        count += 1
        if count > 1:
            os._exit(INTERRUPTED)

    with heard({signal.SIGINT: interrupt}, {signal.SIGINT: signal.default_int_handler}):
        yield


def _deaf_child() -> None:
    # A fork shares the socket: its own Ctrl-C, which a terminal sends to both, would count as a second one here.
    with contextlib.suppress(ValueError):
        signal.set_wakeup_fd(-1)


os.register_at_fork(after_in_child=_deaf_child)

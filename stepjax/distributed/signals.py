"""Signals that are heard while the main thread is deep in a computation: SIGTERM and Ctrl-C."""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

INTERRUPTED = 130
"""Exit status of a command that Ctrl-C ended: 128 + the signal's number, as shells have it."""

_before: dict[int, Any] = {}
"""What signals did outside of every `heard`: what they do in a fork."""
_masks = threading.local()


@contextlib.contextmanager
def heard(
    calls: Mapping[signal.Signals, Callable[[], object]], handlers: Mapping[signal.Signals, Callable] | None = None
) -> Iterator[None]:
    """Inside, a signal of these numbers calls its function, in a thread, instead of what it did before.

    The call comes from a thread that waits at Python's wake-up socket: the main thread may be in a computation or a
    compilation, where it would not see the signal before the end of it. Not in the main thread, nothing is changed. In
    a fork the signals do what they did outside.

    Args:
      handlers: what the main thread does, besides, once it sees a signal; nothing by default.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    read, write = socket.socketpair()
    write.setblocking(False)
    before: dict[int, Any] = {}
    for number in calls:
        handler = signal.signal(number, (handlers or {}).get(number, lambda *_: None))
        before[number] = signal.SIG_DFL if handler is None else handler  # None: it was not Python that handled it
    outermost = {n: handler for n, handler in before.items() if n not in _before}
    _before.update(outermost)
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
        for n, handler in before.items():
            signal.signal(n, handler)
        for n in outermost:
            _before.pop(n, None)  # a fork that comes here has forgotten it
        write.close()
        thread.join(1.0)
        read.close()


@contextlib.contextmanager
def second_interrupt_ends() -> Iterator[None]:
    """Inside, the first Ctrl-C raises KeyboardInterrupt once the main thread sees it; the second ends the process.

    Python drops what is raised within a callback: jax has one at each garbage collection, imports have them, too. An
    interrupt that was dropped there is sent again.
    """
    count = 0

    def interrupt() -> None:
        nonlocal count
        count += 1
        if count > 1:
            os._exit(INTERRUPTED)

    main = threading.main_thread()

    def send_again() -> None:
        nonlocal count
        count -= 1
        signal.pthread_kill(main.ident or 0, signal.SIGINT)  # a true one ends a wait, too

    def dropped(found: Any) -> None:
        if not issubclass(found.exc_type, KeyboardInterrupt):
            before(found)
        elif threading.current_thread() is main:
            threading.Timer(0.02, send_again).start()  # not at once: it would meet the same callback

    before, sys.unraisablehook = sys.unraisablehook, dropped
    try:
        with heard({signal.SIGINT: interrupt}, {signal.SIGINT: signal.default_int_handler}):
            yield
    finally:
        sys.unraisablehook = before


def _hold() -> None:
    # A signal that meets the child before `_forget` would be heard by the parent: the fork shares the socket.
    _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, _before)


def _let_go() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


def _forget() -> None:
    # A terminal sends Ctrl-C to both, and would count twice here; SIGTERM is how multiprocessing ends its workers.
    with contextlib.suppress(ValueError):
        signal.set_wakeup_fd(-1)
        for number, handler in _before.items():
            signal.signal(number, handler)
    _before.clear()
    _let_go()


os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_forget)

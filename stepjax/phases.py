"""What the program is doing now, for whoever shows it: compiling a program, waiting for a rollout."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_listeners: list[Callable[[str], object]] = []


def phase(text: str) -> None:
    """Says what begins now, "compiling rollout", to the latest listener; to nobody where there is none."""
    if _listeners:
        _listeners[-1](text)


@contextmanager
def listening(listener: Callable[[str], object]) -> Iterator[None]:
    """Inside, `listener` hears of each phase."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)

"""What the program is doing now, for whoever shows it: compiling a program, waiting for a rollout."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_listeners: list[tuple[Callable[[str], object], Callable[[str], object]]] = []
"""What each does with a phase, and with a remark."""


def phase(text: str) -> None:
    """Says what begins now, "compiling rollout", to the latest listener; to nobody where there is none."""
    if _listeners:
        _listeners[-1][0](text)


def remark(text: str) -> None:
    """Says what shall stay to be read, to the latest listener; to nobody where there is none."""
    if _listeners:
        _listeners[-1][1](text)


@contextmanager
def listening(phases: Callable[[str], object], remarks: Callable[[str], object]) -> Iterator[None]:
    """Inside, `phases` hears of each phase and `remarks` of each remark."""
    listener = (phases, remarks)
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)

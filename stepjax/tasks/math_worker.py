"""Whether two LaTeX expressions are equal, decided by math_verify where no input can hang or bloat the caller.

A worker process imports math_verify once and forks for every question; the fork has limits of processor time and
memory and is killed past them, which counts as "not equal". So a hostile answer costs a fraction of a second and no
restart, and the verdict does not depend on what was asked before. The worker runs this very file as a script, by
path: it imports nothing of stepjax, starts no accelerator and needs no `if __name__ == "__main__"` in the caller's.
"""

import atexit
import contextlib
import functools
import gc
import importlib.util
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
from typing import Any

CPU_SECONDS = 0.5  # processor time: a busy machine gives the same verdicts as an idle one
WALL_SECONDS = 5.0  # for a fork that waits instead of working
MEMORY = 2 << 30  # bytes of address space
_START_SECONDS = 120.0
_READY, _EQUAL, _OTHER = b"r", b"1", b"0"
_TYPICAL = (
    r"\frac{1}{2}",
    r"3\sqrt{13}",
    r"-\frac{\pi}{6}+2",
    "6-5i",
    "x^2+2x-1",
    "1.5",
    "(a+5)(b-2)",
    "7",
    r"\{1,-2\}",
    "1,2",
    "(1,2]",
    r"(-\infty,2)\cup(3,4)",
    "(1,2)",
    r"(1,\frac{\pi}{2})",
    r"1\pm\sqrt{5}",
    "y=2x+3",
    "x+y-4=0",
    r"\begin{pmatrix}1\\2\end{pmatrix}",
    r"\begin{pmatrix}1&0\\0&\frac{1}{2}\end{pmatrix}",
    r"\cot{x}",
    "2^{10}",
    r"\log_{2}{8}",
    "C",
)


@functools.cache
def available() -> bool:
    """Whether math_verify is installed (and the system can fork)."""
    return hasattr(os, "fork") and importlib.util.find_spec("math_verify") is not None


def equivalent(given: str, expected: str) -> bool:
    """Whether two LaTeX expressions are mathematically equal. False where that cannot be told within the limits.

    The first call starts the worker, which takes about a second. Calls from several threads wait for each other.
    """
    global _worker
    if not available():
        return False
    question = json.dumps([given, expected]).encode() + b"\n"
    with _lock:
        for _ in range(2):  # a second try: somebody may have killed the worker since the last question
            if _worker is None or _worker.owner != os.getpid():  # a fork of the caller must not share its pipes
                _worker = _Worker()
            verdict = _worker.ask(question)
            if verdict in (_EQUAL, _OTHER):
                return verdict == _EQUAL
            _worker.close()
            _worker = None
    return False


class _Worker:
    """The caller's end: questions go out as JSON lines, verdicts come back as single bytes."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.process = subprocess.Popen(
            [sys.executable, "-P", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,  # Ctrl-C is for the caller, who then closes the worker
        )
        self.ready = False

    def ask(self, question: bytes) -> bytes:
        """The verdict, empty where the worker has died or does not answer."""
        assert self.process.stdin and self.process.stdout
        if not self.ready and _read(self.process.stdout.fileno(), _START_SECONDS) != _READY:
            return b""
        self.ready = True
        try:
            self.process.stdin.write(question)
        except BrokenPipeError:
            return b""
        return _read(self.process.stdout.fileno(), 2 * WALL_SECONDS)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe
            pipe.close()


_lock = threading.Lock()
_worker: _Worker | None = None


@atexit.register
def _close() -> None:
    if _worker is not None and _worker.owner == os.getpid():
        _worker.close()


def _read(file: int, seconds: float) -> bytes:
    """One byte; none at the end of the file or after `seconds`."""
    with selectors.DefaultSelector() as selector:
        selector.register(file, selectors.EVENT_READ)
        return os.read(file, 1) if selector.select(seconds) else b""


def _serve() -> None:
    """The worker's loop, until the caller closes its end or dies."""
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints must not be taken for a verdict
    for first, second in zip(_TYPICAL, _TYPICAL[1:] + _TYPICAL[:1], strict=True):
        _equal(first, second)  # fills the parser's caches: every fork then starts with them
    gc.freeze()
    os.write(answers, _READY)
    for line in sys.stdin:
        os.write(answers, _bounded(*json.loads(line)))


def _bounded(given: str, expected: str) -> bytes:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)  # SIGPROF ends the process, even inside one long C call
            _limit_memory()
            os.write(write, _EQUAL if _equal(given, expected) else _OTHER)
        finally:
            os._exit(0)
    os.close(write)
    verdict = _read(read, WALL_SECONDS)
    os.close(read)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return verdict or _OTHER


def _limit_memory() -> None:
    import resource

    with contextlib.suppress(ValueError, OSError):  # not every system has this limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _equal(given: str, expected: str) -> bool:
    from math_verify import LatexExtractionConfig, parse, verify

    def read(text: str) -> Any:
        # Its own time limits rest on signals of the main thread; the fork has better ones.
        config = [LatexExtractionConfig(boxed_match_priority=0)]
        return parse(rf"\boxed{{{text}}}", extraction_config=config, parsing_timeout=None)

    # Twelve digits: 1.414214 is not the square root of two.
    return verify(read(expected), read(given), float_rounding=12, timeout_seconds=None)


if __name__ == "__main__":
    _serve()

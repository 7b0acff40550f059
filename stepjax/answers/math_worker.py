"""Whether two LaTeX expressions are equal, decided by math_verify where no input can hang or bloat the caller.

A worker process imports math_verify once and forks a child that answers questions, each within limits of processor time
and memory. A child that passes them is killed, which counts as "not equal", and the next question is for a fresh fork:
a hostile answer costs a fraction of a second and no restart. A child also goes after a slow question, and after
`CHILD_QUESTIONS` of them, so that nothing piles up. The worker runs this very file as a script, by path: it imports
nothing of stepjax, starts no accelerator (a fork of the caller, where JAX has threads, could hang) and needs no
`if __name__ == "__main__"` in the caller's. Many questions are answered by several workers at a time.
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
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

CPU_SECONDS = 0.5  # processor time: a busy machine gives the same verdicts as an idle one
WALL_SECONDS = 5.0  # for a fork that waits instead of working
MEMORY = 2 << 30  # bytes of address space
CHILD_QUESTIONS = 256  # then a fresh fork: the caches of a symbolic library only grow
SLOW_SECONDS = 0.1  # processor time: a harder question may have left anything in the child's memory
MOST_WORKERS = 8
_START_SECONDS = 120.0
_READY, _EQUAL, _OTHER = b"r", b"1", b"0"
_LAST = {_EQUAL: b"E", _OTHER: b"O"}  # the same from a child that will answer no more
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


def equivalent_many(questions: Sequence[tuple[str, str]], *, workers: int | None = None) -> list[bool]:
    """Whether the two of each (given, expected) are mathematically equal, in order; False where the limits do not let
    that be told.

    Several workers answer at a time. They are started as there are questions for them (one for every eight), which
    takes about a second, and stay for the next call. Calls from several threads wait for each other.

    Args:
      questions: pairs of LaTeX expressions.
      workers: at most so many; None: the processors of this process, at most `MOST_WORKERS`.
    """
    if not questions or not available():
        return [False] * len(questions)
    most = workers or min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1, MOST_WORKERS)
    with _lock:
        if any(worker.owner != os.getpid() for worker in _workers):
            _workers.clear()  # a fork of the caller must not share its pipes
        count = max(1, min(most, -(-len(questions) // 8)))
        while len(_workers) < count:
            _workers.append(_Worker())
        return _ask_all([json.dumps(question).encode() + b"\n" for question in questions], count)


def _ask_all(questions: Sequence[bytes], count: int) -> list[bool]:
    """Each idle worker gets the next question; one that dies or does not answer is replaced, and asked once more."""
    verdicts = [False] * len(questions)
    waiting = deque((i, 2) for i in range(len(questions)))  # (question, tries left): somebody may have killed a worker
    asked: dict[int, tuple[int, int, float]] = {}  # by worker: question, tries left, when it is given up
    while waiting or asked:
        for k in range(count):
            if k not in asked and waiting:
                i, tries = waiting.popleft()
                _workers[k].ask(questions[i])
                asked[k] = i, tries - 1, _workers[k].deadline()
        with selectors.DefaultSelector() as selector:
            for k in asked:
                selector.register(_workers[k].answers, selectors.EVENT_READ, k)
            soonest = min(until for _, _, until in asked.values())
            ready = {key.data for key, _ in selector.select(max(soonest - time.monotonic(), 0.0))}
        for k, (i, tries, until) in list(asked.items()):
            verdict = _workers[k].answer() if k in ready else None
            if verdict in (_EQUAL, _OTHER):
                verdicts[i] = verdict == _EQUAL
                del asked[k]
            elif verdict == _READY:
                asked[k] = i, tries, _workers[k].deadline()
            elif verdict is not None or time.monotonic() >= until:
                _workers[k].close()
                _workers[k] = _Worker()
                if tries:
                    waiting.append((i, tries))
                del asked[k]
    return verdicts


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

    @property
    def answers(self) -> int:
        """The file that verdicts are read from."""
        assert self.process.stdout
        return self.process.stdout.fileno()

    def ask(self, question: bytes) -> None:
        """Sends a question; a worker that has died shows it in its answer."""
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(question)

    def deadline(self) -> float:
        return time.monotonic() + (2 * WALL_SECONDS if self.ready else _START_SECONDS)

    def answer(self) -> bytes:
        """One byte: a verdict, or that the worker is ready; empty where it has died."""
        found = os.read(self.answers, 1)
        self.ready |= found == _READY
        return found

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe
            pipe.close()


_lock = threading.Lock()
_workers: list[_Worker] = []


@atexit.register
def close_workers() -> None:
    """Ends all workers of this process; the next question starts new ones."""
    while _workers:
        worker = _workers.pop()
        if worker.owner == os.getpid():
            worker.close()


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
    child: _Child | None = None
    for line in sys.stdin:
        child = child or _Child()
        verdict, fit = child.ask(line.encode())
        os.write(answers, verdict)
        if not fit:
            child.end()
            child = None
    if child is not None:
        child.end()


class _Child:
    """A fork that answers questions, and the worker's ends of its pipes."""

    def __init__(self) -> None:
        questions, self.questions = os.pipe()
        self.answers, answers = os.pipe()
        self.left = CHILD_QUESTIONS
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self.questions)  # so that the child ends with the worker
                _limit_memory()
                with open(questions, "rb") as lines:
                    for line in lines:
                        before = time.process_time()
                        # SIGPROF ends the process, even inside of one long C call.
                        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
                        verdict = _EQUAL if _equal(*json.loads(line)) else _OTHER
                        signal.setitimer(signal.ITIMER_PROF, 0)
                        slow = time.process_time() - before > SLOW_SECONDS
                        os.write(answers, _LAST[verdict] if slow else verdict)
            finally:
                os._exit(0)
        os.close(questions)
        os.close(answers)

    def ask(self, line: bytes) -> tuple[bytes, bool]:
        """The verdict, and whether the child may be asked again."""
        self.left -= 1
        with contextlib.suppress(BrokenPipeError):
            os.write(self.questions, line)
        found = _read(self.answers, WALL_SECONDS)
        verdict = _EQUAL if found in (_EQUAL, _LAST[_EQUAL]) else _OTHER
        return verdict, found in (_EQUAL, _OTHER) and self.left > 0

    def end(self) -> None:
        os.close(self.questions)
        os.close(self.answers)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


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

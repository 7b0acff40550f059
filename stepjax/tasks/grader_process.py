"""A grader of the user's, run in a process of its own, so that nothing it does can hold up or end the run.

The process runs this very file as a script, by path: it imports nothing of stepjax and starts no accelerator. Questions
go out and verdicts come back as JSON lines. A call that takes too long ends the process; the next one starts another.
"""

import contextlib
import importlib
import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
import traceback
import weakref
from types import ModuleType
from typing import Any

START_SECONDS = 120.0
_SLACK = 5  # seconds after which the process ends itself, where its caller has died
_log = logging.getLogger(__name__)


class GraderError(Exception):
    """The user's grader cannot be called, raised an exception or returned no verdict: one line, with the place."""

    def __init__(self, message: str, known: tuple[str, ...] = ()):
        super().__init__(message)
        self.known = known


class GraderProcess:
    """Calls the function at `path`, "package.module:name", in another process; from one thread at a time."""

    def __init__(self, path: str, seconds: float):
        """Starts nothing yet: the first question does, or `start`."""
        self.path, self.seconds = path, seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""
        self._late = 0
        _alive.add(self)

    def start(self) -> None:
        """Starts the process.

        Raises:
          GraderError: where the module cannot be imported or has no such function.
        """
        with self._lock:
            self._start()

    def ask(self, response: str, answer: str) -> bool:
        """The verdict; False where the function takes longer than `seconds`.

        Raises:
          GraderError: where it raises an exception, returns no bool, or ends its process.
        """
        with self._lock:
            if self._process is None:
                self._start()
            reply = self._call(json.dumps([response, answer]), self.seconds)
            if reply is not None:
                return bool(reply["verdict"])
            self._late += 1
            if self._late in (1, 10, 100, 1000):
                limit = f"{self.seconds:g} s (task.grader_seconds)"
                _log.warning("%s took longer than %s, %d times so far: counted as wrong", self.path, limit, self._late)
            return False

    def close(self) -> None:
        """Ends the process; the next question starts another."""
        process, self._process, self._unread = self._process, None, b""
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe
                with contextlib.suppress(OSError):
                    pipe.close()

    def forget(self) -> None:
        """In a fork of the caller: leaves its process to it, and its lock, which another thread may have held."""
        process, self._process, self._unread = self._process, None, b""
        self._lock = threading.Lock()
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                assert pipe
                with contextlib.suppress(OSError):
                    pipe.close()
            process.returncode = 0  # no child of this process: nothing to wait for

    def _start(self) -> None:
        folders = [*filter(None, sys.path), os.getcwd()]  # the current folder is searched last
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, self.path, str(self.seconds + _SLACK)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(folders), "JAX_PLATFORMS": "cpu"},
            start_new_session=True,  # Ctrl-C is for the caller, who then closes the process
        )
        if self._call(None, START_SECONDS) is None:
            raise GraderError(f"importing {self.path.partition(':')[0]} takes longer than {START_SECONDS:.0f} s")

    def _call(self, question: str | None, seconds: float) -> dict[str, Any] | None:
        """Sends a question and reads the reply; None, and no process any more, where it comes too late."""
        process = self._process
        assert process and process.stdin
        try:
            if question is not None:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.write(question.encode() + b"\n")
            line = self._line(time.monotonic() + seconds)
        except BaseException:  # an interrupted question would be answered instead of the next one
            self.close()
            raise
        if line is None:
            self.close()
            return None
        if not line:
            status = process.wait()
            self.close()
            raise GraderError(f"ended its process (exit status {status})")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            self.close()
            raise GraderError(reply["error"], tuple(reply.get("known", ())))
        return reply

    def _line(self, until: float) -> bytes | None:
        """One line; empty at the end of the file, None where the time is up."""
        process = self._process
        assert process and process.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                left = until - time.monotonic()
                if left <= 0 or not selector.select(left):
                    return None
                found = os.read(process.stdout.fileno(), 1 << 16)
                if not found:
                    return b""
                self._unread += found
        line, _, self._unread = self._unread.partition(b"\n")
        return line


_alive: "weakref.WeakSet[GraderProcess]" = weakref.WeakSet()


def _forget_all() -> None:
    for grader in list(_alive):
        grader.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def _serve(path: str, seconds: float) -> None:
    """The process's loop, until the caller closes its end or dies."""
    questions, replies = os.fdopen(os.dup(0), "rb"), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what the function prints must not be read as a verdict

    def reply(**fields: Any) -> None:
        os.write(replies, json.dumps(fields).encode() + b"\n")

    name, _, attribute = path.partition(":")
    try:
        module = importlib.import_module(name)
    except BaseException as error:  # a module may raise anything while it is imported
        return reply(error=f"{name} cannot be imported ({_described(error, None)})")
    function = getattr(module, attribute, None)
    if not callable(function):
        known = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
        return reply(error=f"{name} has no function {attribute!r}", known=known)
    reply(ready=True)
    for line in questions:
        if hasattr(signal, "setitimer"):  # ends the process, even inside of one long call, also without the caller
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            verdict = function(*json.loads(line))
        except BaseException as error:  # of the user's code, which may raise anything
            reply(error=f"raised {_described(error, module)}")
        else:
            if type(verdict).__name__ in ("bool", "bool_"):  # NumPy's, too
                reply(verdict=bool(verdict))
            else:
                reply(error=f"returned {type(verdict).__name__}, not True or False")
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)


def _described(error: BaseException, module: ModuleType | None) -> str:
    """The exception in one line, with the file and the line of the user's code that it came through last."""
    text = " ".join(f"{type(error).__name__}: {error}".split())[:300].removesuffix(": ")
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__]
    frames = [f for f in frames if not f.filename.startswith("<frozen") and f.filename != importlib.__file__]
    own = [f for f in frames if module is not None and f.filename == module.__file__] or frames
    if isinstance(error, SyntaxError) and error.filename:
        return f"{text}; {error.filename}:{error.lineno}" if module is None else text
    return f"{text}; {own[-1].filename}:{own[-1].lineno}" if own else text


if __name__ == "__main__":
    _serve(sys.argv[1], float(sys.argv[2]))

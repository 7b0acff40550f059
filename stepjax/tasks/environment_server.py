"""The process in which environments run: questions come as JSON lines, answers go out as JSON lines.

Run by path as a script. It imports the environment's module and what that needs: no accelerator is started. Each
question has a thread, so that one that hangs holds up no other; what keeps the interpreter itself busy is found by the
caller, who ends the process (`stepjax.tasks.environment_pool`). Where the caller has died, an alarm does.
"""

import base64
import importlib
import inspect
import json
import math
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

SLACK = 60.0
"""Seconds after the latest answer is due when the process ends itself."""


class Malformed(Exception):
    """An answer of a wrong type; the text says which."""


def read_reply(found: Any) -> dict[str, Any]:
    """A `Reply`'s fields, checked: anything that has them will do."""
    text, reward, done = (getattr(found, name, None) for name in ("text", "reward", "done"))
    if not hasattr(found, "text") or reward is None or done is None:
        raise Malformed(f"step returned {type(found).__name__}, not a Reply")
    text = "" if text is None else text
    if not isinstance(text, str):
        raise Malformed(f"a Reply's text is {type(text).__name__}, not str")
    if type(done).__name__ not in ("bool", "bool_"):  # NumPy's, too
        raise Malformed(f"a Reply's done is {type(done).__name__}, not True or False")
    try:
        number = float(reward)
    except (TypeError, ValueError):
        raise Malformed(f"a Reply's reward is {type(reward).__name__}, not a number") from None
    if not math.isfinite(number) or abs(number) > 1e30:
        raise Malformed(f"a Reply's reward is {number}, not a finite number")
    return {"text": text, "reward": number, "done": bool(done)}


class Server:
    """Answers questions with objects of a class, one for each row."""

    def __init__(self, make: Callable[[], Any], write: Callable[..., None]):
        self._make, self._write = make, write
        self._rows: dict[int, Any] = {}
        self._open: dict[int, int] = {}  # the row of each question that is not answered
        self._due = 0.0  # when the latest of their answers is
        self._lock = threading.Lock()

    def ask(self, question: dict[str, Any]) -> None:
        """Begins to answer a question."""
        kind = question["ask"]
        if kind == "ping":
            self._write(pong=question["id"])
        elif kind == "forget":
            self._rows.pop(question["row"], None)
            self._closed(row=question["row"])  # the caller does not wait for it any more
        else:
            with self._lock:
                self._open[question["id"]] = question["row"]
                now = time.monotonic()
                self._due = max(self._due, now + question["seconds"] + SLACK)
                self._alarm(self._due - now)
            threading.Thread(target=self._answer, args=(question,), daemon=True).start()

    def _alarm(self, seconds: float) -> None:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, seconds)

    def _closed(self, *, number: int | None = None, row: int | None = None) -> None:
        with self._lock:
            self._open = {n: r for n, r in self._open.items() if n != number and r != row}
            if not self._open:
                self._due = 0.0
                self._alarm(0)

    def _answer(self, question: dict[str, Any]) -> None:
        number, row = question["id"], question["row"]
        module = sys.modules.get(getattr(type(self._rows.get(row)), "__module__", ""))
        try:
            if question["ask"] == "reset":
                environment = self._make()
                module = sys.modules.get(type(environment).__module__)
                text = environment.reset(pickle.loads(base64.b64decode(question["problem"])))
                if not (text is None or isinstance(text, str)):
                    raise Malformed(f"reset returned {type(text).__name__}, not a text or None")
                for before in question["turns"]:
                    environment.step(before)
                self._rows[row] = environment
                answer = {"text": text or "", "reward": 0.0, "done": False}
            else:
                answer = read_reply(self._rows[row].step(question["text"]))
            json.dumps(answer).encode()  # a lone surrogate cannot be sent
        except Malformed as error:
            answer = {"malformed": str(error)}
        except BaseException as error:  # of the user's code, which may raise anything
            answer = {"raised": described(error, module)}
        self._closed(number=number)
        self._write(id=number, **answer)


def described(error: BaseException, module: Any) -> str:
    """The exception in one line, with the file and the line of the environment's code that it came through last."""
    try:
        text = " ".join(f"{type(error).__name__}: {error}".split())[:300].removesuffix(": ")
    except BaseException:  # an exception whose text cannot be made
        text = type(error).__name__
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename not in (__file__, importlib.__file__)]
    own = [f for f in frames if f.filename == getattr(module, "__file__", None)] or frames
    return f"{text}; {own[-1].filename}:{own[-1].lineno}" if own else text


def find(path: str, arguments: dict[str, Any]) -> Callable[[], Any]:
    """What makes an environment; ValueError, in one line, where it cannot."""
    name, _, attribute = path.partition(":")
    try:
        module = importlib.import_module(name)
    except BaseException as error:  # a module may raise anything while it is imported
        raise ValueError(f"{name} cannot be imported ({described(error, None)})") from None
    cls = getattr(module, attribute, None)
    if not callable(cls):
        known = sorted(n for n, x in vars(module).items() if inspect.isclass(x) and x.__module__ == module.__name__)
        raise ValueError(f"{name} has no class {attribute!r}" + (f"; it has {', '.join(known)}" if known else ""))
    try:
        made = cls(**arguments)
    except BaseException as error:
        raise ValueError(f"{path} cannot be made with environment.options ({described(error, module)})") from None
    for method in ("reset", "step"):
        if not callable(getattr(made, method, None)):
            raise ValueError(f"{path} has no method {method}")
    if not isinstance(getattr(made, "call", ""), str):
        raise ValueError(f"{path}: its `call` must be a text")
    return lambda: cls(**arguments)


def serve(path: str, arguments: dict[str, Any]) -> None:
    """The process's loop, until the caller closes its end or dies."""
    questions, out = os.fdopen(os.dup(0), "rb"), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what an environment prints must not be read as an answer
    lock = threading.Lock()

    def write(**fields: Any) -> None:
        data = json.dumps(fields).encode() + b"\n"
        with lock:
            while data:
                data = data[os.write(out, data) :]

    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    try:
        make = find(path, arguments)
    except ValueError as error:
        return write(error=str(error))
    write(ready=True, call=getattr(make(), "call", ""))
    server = Server(make, write)
    for line in questions:
        server.ask(json.loads(line))
    os._exit(0)  # threads that hang would be waited for


if __name__ == "__main__":
    serve(sys.argv[1], json.loads(sys.argv[2]))

"""A process that runs environments, as its caller sees it: what is asked, what waits to be asked, what came in.

A question that is late ends its row. Where the process still answers, only that question's thread was stuck; where it
does not, something holds the interpreter itself: the process is ended, and the questions that it had are asked again
one by one, so that the one to blame is found and no other row is lost. An environment that was lost with its process is
made again and given the same turns.
"""

import base64
import collections
import contextlib
import dataclasses
import json
import os
import pickle
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from stepjax.errors import UserError
from stepjax.tasks import environment_server
from stepjax.tasks.base import Problem
from stepjax.tasks.turns import LATE, LOST, MALFORMED, RAISED, Reply

OPTION = "config.environment.name"
START_SECONDS = 120.0
PONG_SECONDS = 5.0
"""How soon a process must say that it is there, once a question is late."""

MOST_STUCK = 16
"""Threads that hang, above which a process is started anew."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came of a question.

    Attributes:
      row: of which it was asked.
      reply: None where there is none.
      cause: then one of `stepjax.tasks.turns.CAUSES`, by number; `told`: more of it, for people.
    """

    row: int
    reply: Reply | None
    cause: int = -1
    told: str = ""


@dataclasses.dataclass
class Played:
    """An environment as it can be made again: its problem and the turns that it was given."""

    problem: Problem
    turns: list[str] = dataclasses.field(default_factory=list)
    text: str | None = None  # of the turn that is asked; None: the reset


@dataclasses.dataclass
class _Question:
    number: int
    row: int
    due: float


class EnvironmentProcess:
    """One process: what is asked, what waits to be asked, and the rows whose environments it has."""

    def __init__(self, path: str, arguments: Mapping[str, Any], seconds: float, calls: int):
        self.path, self.arguments, self.seconds, self.calls = path, dict(arguments), seconds, calls
        self.call = ""
        self.rows: dict[int, Played] = {}
        self.waiting: collections.deque[int] = collections.deque()
        self.alone: collections.deque[int] = collections.deque()
        self._known: set[int] = set()
        self._asked: dict[int, _Question] = {}
        self._number = self._stuck = 0
        self._pong: float | None = None
        self._late: list[_Question] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = self._unsent = b""

    def start(self) -> None:
        """UserError where the class cannot be imported or made."""
        folders = [*filter(None, sys.path), os.getcwd()]  # the current folder is searched last
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-P", environment_server.__file__),
                *(self.path, json.dumps(self.arguments)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(folders), "JAX_PLATFORMS": "cpu"},
            start_new_session=True,  # Ctrl-C is for the caller, who then closes the process
        )
        assert self._process.stdin and self._process.stdout
        for pipe in (self._process.stdin, self._process.stdout):
            os.set_blocking(pipe.fileno(), False)
        end = time.monotonic() + START_SECONDS
        while not (said := list(self._read(max(end - time.monotonic(), 0.0)))):
            if time.monotonic() >= end or self._process.poll() is not None:
                self.close()
                raise UserError(f"{OPTION}: {self.path} cannot be made in {START_SECONDS:g} s, or ended its process")
        if "error" in said[0]:
            self.close()
            raise UserError(f"{OPTION}: {said[0]['error']}")
        self.call = str(said[0]["call"])

    def close(self) -> None:
        """Ends the process; rows stay, to be made again."""
        process, self._process, self._unread, self._unsent = self._process, None, b"", b""
        self._known, self._asked, self._late, self._pong, self._stuck = set(), {}, [], None, 0
        if process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # with what the environments have started
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe
                with contextlib.suppress(OSError):
                    pipe.close()

    @property
    def fileno(self) -> int | None:
        return None if self._process is None or self._process.stdout is None else self._process.stdout.fileno()

    @property
    def busy(self) -> bool:
        return bool(self._asked or self._late or self.waiting or self.alone)

    def forget(self, row: int) -> None:
        self.rows.pop(row, None)
        if row in self._known:
            self._known.discard(row)
            self._send(ask="forget", id=-1, row=row)

    def look(self) -> list[Answer]:
        """Asks what may be asked, and gives what has come in or is late."""
        if self._process is None and not self.busy:
            return []
        over = self._process is not None and self._process.poll() is not None
        if over and not (self._asked or self._late):  # it died between two questions: none is to blame
            self.close()
        if self._process is None:
            self.start()
            over = False
        if not over:
            self._ask()
        found = [answer for said in self._read(0.0) for answer in self._heard(said)]
        if self._process is None:  # to be started anew
            return found
        if self._process.poll() is not None:
            found += self._ended(LOST, f"its process ended (exit status {self._process.returncode})")
        else:
            found += self._overdue()
        self._flush()
        return found

    def _ask(self) -> None:
        """In a fresh process after an end, the questions of the old one go one by one."""
        most = self.calls
        while len(self._asked) < most and not self._late:
            if self.alone:
                if self._asked:
                    return
                most, queue = 1, self.alone
            else:
                queue = self.waiting
            if not queue:
                return
            row = queue.popleft()
            if row in self.rows:
                self._put(row)

    def _put(self, row: int) -> None:
        asked, known = self.rows[row], row in self._known
        if not known and asked.text is not None:  # made again, then asked
            self._question(row, "reset", remade=True)
        elif asked.text is None:
            self._question(row, "reset")
        else:
            self._question(row, "step", text=asked.text)

    def _question(self, row: int, ask: str, *, remade: bool = False, **fields: Any) -> None:
        self._number += 1
        asked, seconds = self.rows[row], self.seconds
        if ask == "reset":
            packed = base64.b64encode(pickle.dumps(asked.problem)).decode()
            fields = {"problem": packed, "turns": asked.turns}
            seconds *= 1 + len(asked.turns)
        self._asked[self._number] = _Question(self._number, row, time.monotonic() + seconds)
        self._send(ask=ask, id=self._number, row=row, seconds=seconds, **fields)

    def _send(self, **fields: Any) -> None:
        self._unsent += json.dumps(fields).encode() + b"\n"
        self._flush()

    def _flush(self) -> None:
        if self._process is None or self._process.stdin is None:
            return
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            while self._unsent:
                self._unsent = self._unsent[os.write(self._process.stdin.fileno(), self._unsent) :]

    def _read(self, seconds: float) -> Iterator[dict[str, Any]]:
        """The lines that are there, after `seconds` at most."""
        if (fileno := self.fileno) is None:
            return
        with selectors.DefaultSelector() as selector:
            selector.register(fileno, selectors.EVENT_READ)
            if selector.select(seconds):
                with contextlib.suppress(BlockingIOError):
                    while part := os.read(fileno, 1 << 16):
                        self._unread += part
        *lines, self._unread = self._unread.split(b"\n")
        for line in lines:
            said = json.loads(line)
            if isinstance(said, dict):
                yield said

    def _heard(self, said: dict[str, Any]) -> list[Answer]:
        if "pong" in said:
            self._pong = None
            late, self._late = self._late, []
            self._stuck += len(late)
            found = [self._given_up(asked.row, LATE, f"no reply in {self.seconds:g} s") for asked in late]
            if self._stuck > MOST_STUCK:
                again = [asked.row for asked in self._asked.values()]
                self.close()
                self.waiting.extendleft(reversed(again))
            return found
        asked = self._asked.pop(said.get("id", -1), None)
        if asked is None or asked.row not in self.rows:
            return []
        row = self.rows[asked.row]
        for name, cause in (("raised", RAISED), ("malformed", MALFORMED)):
            if name in said:
                return [self._given_up(asked.row, cause, str(said[name]))]
        first = asked.row not in self._known
        self._known.add(asked.row)
        if first and row.text is not None:  # it was made again
            self._put(asked.row)
            return []
        if row.text is not None:
            row.turns.append(row.text)
        return [Answer(asked.row, Reply(str(said["text"]), float(said["reward"]), bool(said["done"])))]

    def _given_up(self, row: int, cause: int, told: str) -> Answer:
        self.forget(row)
        return Answer(row, None, cause, told)

    def _overdue(self) -> list[Answer]:
        now = time.monotonic()
        late = [asked for asked in self._asked.values() if asked.due < now]
        for asked in late:
            del self._asked[asked.number]
        self._late += late
        if self._late and self._pong is None:
            self._pong = now + PONG_SECONDS
            self._send(ask="ping", id=0)
        if self._pong is not None and now > self._pong:
            return self._ended(LATE, f"no reply in {self.seconds:g} s, and nothing else could run")
        return []

    def _ended(self, cause: int, told: str) -> list[Answer]:
        """The process is over, or must be. A question that was alone is to blame; others are asked again one by one."""
        had = sorted([*self._late, *self._asked.values()], key=lambda asked: asked.number)
        self.close()
        if len(had) == 1:
            return [self._given_up(had[0].row, cause, told)]
        self.alone.extend(asked.row for asked in had)
        return []

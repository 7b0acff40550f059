"""Heartbeats: every process publishes what it does, and ends by itself when another one is lost.

The pulses go through the coordination service that JAX starts in process 0. A dead process stops sending them, a failed
one says why it ended, and one that lets all others wait is named as such. No collective, no barrier of a checkpoint and
no wait for a device can then hang for longer than the options say.
"""

import json
import math
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from stepjax.distributed.stop import Stop

LOST = 75
"""Exit status of a run that ended before its end and that the same command continues (sysexits' EX_TEMPFAIL)."""

FOLDER = "stepjax/pulse/"
COMMUNICATION = ("gloo", "unavailable", "deadline", "coordination", "barrier", "connection", "heartbeat", "nccl")
"""Words of errors that come from another process rather than from this one."""


class Activity:
    """What this process's main thread does: shown to the others, and the ground on which a straggler is named."""

    def __init__(self) -> None:
        self.doing = "starting"
        self.waiting = False
        self.since = time.monotonic()

    def now(self, doing: str) -> None:
        self.doing, self.since = doing, time.monotonic()

    @contextmanager
    def wait(self) -> Iterator[None]:
        """Inside, the main thread waits for devices or for other processes; one wait may lie inside of another."""
        before = self.waiting
        self.waiting, self.since = True, time.monotonic()
        try:
            yield
        finally:
            self.waiting, self.since = before, time.monotonic()


activity = Activity()


class Watch:
    """The heartbeat of one process, and its view of the others.

    Args:
      client: JAX's client of the coordination service.
      timeout: seconds without a pulse after which a process is lost.
      stall: seconds that one process may let the others wait; 0: any.
      end: `(status, reason)`, ends this process; called from a thread of the watch.
    """

    def __init__(
        self,
        client: Any,
        process: int,
        processes: int,
        *,
        coordinator: str,
        timeout: float,
        stall: float,
        stop: Stop,
        end: Callable[[int, str], None],
    ):
        self._client, self._process, self._processes = client, process, processes
        self._coordinator, self._timeout, self._stall, self._stop, self._end = coordinator, timeout, stall, stop, end
        # Often enough to notice a request to stop, seldom enough for the one service of a thousand processes.
        self.period = max(min(timeout / 10, 1.0), processes / 100)
        self.patience, self._suspecting = timeout, False
        self._beat = 0
        self._own: dict[str, Any] = {"host": socket.gethostname(), "pid": os.getpid()}
        start = time.monotonic()
        self._heard = dict.fromkeys(range(processes), start)
        self._seen: dict[int, dict[str, Any]] = {}
        self._answered = start
        self._over = threading.Event()
        self._lock = threading.Lock()

    def start(self) -> None:
        for work in (self._pulses, self._link):
            threading.Thread(target=work, name="watch", daemon=True).start()

    def close(self) -> None:
        self._over.set()

    def publish(self, **values: Any) -> None:
        """Adds to what the others see of this process, at once."""
        self._own |= values
        self._send()

    def every(self, name: str, *, lost: bool = False) -> bool:
        """Whether every process has published a true `name`; with `lost` a silent one does not count."""
        oldest = time.monotonic() - self.patience if lost else -math.inf
        return all(self._seen.get(p, {}).get(name) for p in range(self._processes) if self._heard[p] >= oldest)

    def suspect(self) -> None:
        """A connection broke: a process that is silent from now on is reported after seconds, not after the timeout."""
        self.patience, self._suspecting = min(self._timeout, max(5 * self.period, 3.0)), True

    def _send(self) -> None:
        with self._lock:
            self._beat += 1
            since = round(time.monotonic() - activity.since, 1)
            pulse = {
                **self._own,
                "beat": self._beat,
                "doing": activity.doing,
                "waiting": activity.waiting,
                "since": since,
                "stop": self._stop.reason,
                "step": self._stop.published(),
            }
            self._client.key_value_set(f"{FOLDER}{self._process}", json.dumps(pulse), True)
            entries = self._client.key_value_dir_get(FOLDER)
        now = time.monotonic()
        self._answered = now
        for key, value in entries:
            p = int(key.rsplit("/", 1)[-1])
            pulse = json.loads(value)
            if pulse["beat"] != self._seen.get(p, {}).get("beat"):
                self._heard[p] = now
            self._seen[p] = pulse

    def _pulses(self) -> None:
        failures = 0
        while not self._over.is_set():
            try:
                self._send()
                failures = 0
            except Exception as error:  # any error of the client: the service does not answer
                if self._over.is_set():
                    return
                failures += 1
                if failures > 2:
                    self._no_service(" ".join(str(error).split())[:120])
            else:
                self._check_others()
            self._over.wait(0.3 if failures else self.period)

    def _link(self) -> None:
        """A call into the client may hang as long as the network lets it: its age is measured from outside.

        The client aborts this process soon after its connection breaks (`start._slow_aborts`), and no call returns in
        the meantime. A broken collective beside a call that hangs is proof enough; without one it is said and no more.
        """
        told = False
        while not self._over.wait(0.25):
            silent = time.monotonic() - self._answered - self.period
            if silent > self._timeout or (self._suspecting and silent > 2.0):
                self._no_service(f"no answer for {max(silent, 0.0):.0f} s")
            if silent > 3.5 and not told:
                told = True
                line = f"{self._name(0)}, which coordinates the run, has not answered for {silent:.0f} s"
                print(f"stepjax: {line}", file=sys.stderr, flush=True)

    def _no_service(self, why: str) -> None:
        self._end(LOST, f"{self._name(0)}, which coordinates the run at {self._coordinator}, is lost: {why}")

    def _name(self, p: int) -> str:
        seen = self._seen.get(p)
        return f"process {p}" + (f" (pid {seen['pid']} on {seen['host']})" if seen else "")

    def _check_others(self) -> None:
        now = time.monotonic()
        others = [p for p in range(self._processes) if p != self._process]
        for p in others:
            seen = self._seen.get(p, {})
            if seen.get("stop"):
                self._stop.request(f"process {p}: {seen['stop']}" if ": " not in seen["stop"] else seen["stop"])
            if end := seen.get("end"):
                status, reason = end
                self._end(status, reason if reason.startswith("process ") else f"{self._name(p)} ended: {reason}")
        for p in others:
            seen = self._seen.get(p, {})
            if now - self._heard[p] > self.patience and not seen.get("done"):
                last = f", last at {seen['doing']}" if seen else ""
                silent = now - self._heard[p]
                self._end(LOST, f"{self._name(p)} is lost: no heartbeat for {silent:.0f} s{last}")
        self._stop.agree([self._seen.get(p, {}).get("step") for p in range(self._processes)])
        if self._stall and activity.waiting and now - activity.since > self._stall:
            self._name_straggler(others)

    def _name_straggler(self, others: list[int]) -> None:
        busy = [p for p in others if not self._seen[p].get("waiting") and self._seen[p]["since"] > self._stall]
        if busy:
            seen = self._seen[busy[0]]
            told = f"{self._name(busy[0])} has kept the others waiting for {seen['since']:.0f} s, at {seen['doing']}"
        elif all(self._seen[p].get("waiting") and self._seen[p]["since"] > self._stall for p in others):
            told = f"every process has waited for {self._stall:.0f} s at {activity.doing}: a device or a link hangs"
        else:
            return
        self._end(LOST, told)

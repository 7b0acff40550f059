#!/usr/bin/env python3
"""Several processes of one run on this machine, each with CPU devices of its own: a pod tried out for nothing.

    launch/local.py --processes 2 --devices 4 -- stepjax ppo --config=quickstart --workdir=runs/pod

Every process runs the same command; they find one another as hosts of a pod do. Their output comes with the process's
number in front. When one ends with an error, the others have --patience seconds to end by themselves (they say why),
then they are killed; the exit status is that of the first failure. SIGTERM and Ctrl-C are passed on.

Cost: this machine's cores and, a process, some 0.5 GB of memory. Stop it with Ctrl-C.
"""

import argparse
import contextlib
import ctypes
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(process: int, processes: int, devices: int, port: int) -> dict[str, str]:
    """What a process finds in its surroundings beside what this one has."""
    flags = [f for f in os.environ.get("XLA_FLAGS", "").split() if "host_platform_device_count" not in f]
    return {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": " ".join([*flags, f"--xla_force_host_platform_device_count={devices}"]),
        "STEPJAX_COORDINATOR": f"127.0.0.1:{port}",
        "STEPJAX_PROCESSES": str(processes),
        "STEPJAX_PROCESS": str(process),
    }


def die_with_parent() -> None:
    """In a child, before its command: SIGTERM comes when this launcher is gone, even by SIGKILL (on Linux)."""
    if LIBC is not None:
        LIBC.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def forward(prefix: str, source: Any, target: Any, lock: threading.Lock) -> None:
    """Copies lines as they come, the prefix before each."""
    for line in iter(source.readline, b""):
        with lock, contextlib.suppress(OSError, ValueError):
            target.write(prefix.encode() + line.rstrip(b"\n") + b"\n")
            target.flush()


class Job:
    """The processes of a run, from their start to the end of the last one."""

    def __init__(self, patience: float):
        self.patience = patience
        self.children: list[subprocess.Popen[bytes]] = []
        self.threads: list[threading.Thread] = []
        self.told: int | None = None

    def start(self, command: Sequence[str], processes: int, devices: int, port: int) -> None:
        lock = threading.Lock()
        for process in range(processes):
            child = subprocess.Popen(
                list(command),
                env={**os.environ, **environment(process, processes, devices, port)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                # A Ctrl-C at the terminal comes once, from here.
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
            self.children.append(child)
            if self.told is not None:  # while this one was started
                child.send_signal(self.told)
            prefix = f"[{process}] "
            for source, target in ((child.stdout, sys.stdout.buffer), (child.stderr, sys.stderr.buffer)):
                thread = threading.Thread(target=forward, args=(prefix, source, target, lock), daemon=True)
                thread.start()
                self.threads.append(thread)

    def send(self, number: int) -> None:
        self.told = number
        for child in self.children:
            if child.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    child.send_signal(number)

    def wait(self) -> int:
        """The exit status: 0, or that of the first process that failed (128 + n where signal n killed it)."""
        first: tuple[int, int] | None = None
        due = 0.0
        while any(child.poll() is None for child in self.children):
            if first is None:
                first = self._failed()
                due = time.monotonic() + self.patience
            if first is not None and time.monotonic() > due:
                self.send(signal.SIGKILL)
            time.sleep(0.05)
        first = first or self._failed()
        for thread in self.threads:
            thread.join(5.0)
        if first is None:
            return 0
        process, status = first
        if status < 0:
            print(f"launch/local.py: process {process} was killed by {signal.Signals(-status).name}", file=sys.stderr)
            return 128 - status
        print(f"launch/local.py: process {process} ended first, with status {status}", file=sys.stderr)
        return status

    def _failed(self) -> tuple[int, int] | None:
        for process, child in enumerate(self.children):
            if child.poll() not in (None, 0):
                return process, child.returncode
        return None


def main(argv: Sequence[str] | None = None) -> int:
    about = (__doc__ or "").strip()
    parser = argparse.ArgumentParser(
        prog="launch/local.py", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=1, help="how many processes (1)")
    parser.add_argument("--devices", type=int, default=8, help="CPU devices of each process (8)")
    parser.add_argument("--patience", type=float, default=90.0, help="seconds from the first failure to a kill (90)")
    parser.add_argument("--port", type=int, default=0, help="port of process 0 (a free one)")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and start nothing")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- stepjax COMMAND …")
    options = parser.parse_args(argv)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        parser.error("name a command after --")
    if options.processes < 1 or options.devices < 1:
        parser.error("--processes and --devices must be positive")
    port = options.port or free_port()
    if options.dry_run:
        for process in range(options.processes):
            own = environment(process, options.processes, options.devices, port)
            print(" ".join(f"{k}={shlex.quote(v)}" for k, v in own.items()), shlex.join(command))
        return 0
    job = Job(options.patience)
    for number in (signal.SIGTERM, signal.SIGINT):  # before a process starts, which may be slower than a signal
        signal.signal(number, lambda number, _: job.send(number))
    try:
        job.start(command, options.processes, options.devices, port)
        return job.wait()
    finally:
        job.send(signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())

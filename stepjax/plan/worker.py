"""Compiling in a process of its own: a compiler that crashes, or takes all memory, costs one program's plan.

`python -m stepjax.plan.worker PARENT` reads a pickled `Job` from its standard input and writes JSON lines: the names of
the programs, then of each program that it begins, and its plan; or an error of the user's. It ends when the process
PARENT, which began it, does.
"""

import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from stepjax.config import Config
from stepjax.errors import UserError
from stepjax.plan.compiled import ProgramPlan


@dataclass(frozen=True)
class Job:
    """Programs of a config to plan on a mesh of a topology; `only`: their names (none: all); `done`: those to skip."""

    config: Config
    topology: str
    sizes: tuple[int, ...]
    only: tuple[str, ...] = ()
    done: tuple[str, ...] = ()


def planned_apart(job: Job, said: Callable[[str], Any] = lambda line: None) -> list[ProgramPlan]:
    """The plans of a job's programs, in order; `said` is called with the name of each one that begins.

    UserError where the config does not fit the mesh.
    """
    found: list[ProgramPlan] = []
    names: Sequence[str] | None = None
    while names is None or len(found) < len(names):
        with tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "stepjax.plan.worker", str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=os.environ | {"JAX_PLATFORMS": "cpu"},
            )
            assert process.stdin is not None and process.stdout is not None
            try:
                process.stdin.write(pickle.dumps(replace(job, done=tuple(p.name for p in found))))
                process.stdin.close()
                begun: dict[str, Any] | None = None
                for line in process.stdout:
                    message = json.loads(line)
                    if "error" in message:
                        raise UserError(message["error"])
                    if "names" in message:
                        names = message["names"]
                    elif "begin" in message:
                        begun = message["begin"]
                        said(begun["name"])
                    else:
                        found.append(ProgramPlan.of_json(message["plan"]))
                        begun = None
                status = process.wait()
            finally:
                process.kill()
                process.wait()
            if begun is not None:
                found.append(replace(ProgramPlan.of_json(begun), failure=_cause(status, errors)))
            elif status or names is None:
                raise RuntimeError(f"planning ended with status {status}: {_tail(errors)}")
    return found


def _cause(status: int, errors: TextIO) -> str:
    """Why the compiling process ended, in one line."""
    if status == -signal.SIGKILL:
        return "the compiling process was killed, most likely because the host's memory was full"
    if status < 0:
        return f"the compiler crashed ({signal.Signals(-status).name})"
    return f"compiling failed: {_tail(errors)}"


def _tail(errors: TextIO) -> str:
    errors.seek(0)
    lines = [line.strip() for line in errors.read()[-20_000:].splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no message"


def main() -> None:
    threading.Thread(target=ends_with, args=(int(sys.argv[1]),), daemon=True).start()
    job: Job = pickle.load(sys.stdin.buffer)
    lines = os.fdopen(os.dup(1), "w", buffering=1)  # the compiler may print to standard output: that goes elsewhere
    os.dup2(2, 1)

    def tell(**message: Any) -> None:
        lines.write(json.dumps(message, allow_nan=False) + "\n")

    try:
        _work(job, tell)
    except UserError as error:
        tell(error=str(error))


def ends_with(parent: int) -> None:
    """Ends this process, which may compile for long, once process `parent`, which waits for it, is gone."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _work(job: Job, tell: Callable[..., None]) -> None:
    from stepjax.chips import open_topology

    topology = open_topology(job.topology)
    import jax

    # Constants of the programs are made on the CPU, whatever accelerator is here.
    jax.config.update("jax_platforms", "cpu")
    from stepjax.parallel import make_mesh
    from stepjax.plan.compiled import plan_program
    from stepjax.plan.surroundings import planned_programs, planned_run

    mesh = make_mesh(*job.sizes, devices=topology.devices)
    planned = planned_programs(planned_run(job.config, mesh))
    there = [p.program.name for p in planned]
    if unknown := [name for name in job.only if name not in there]:
        raise UserError(f"--programs: no program {unknown[0]!r} in this run; there are {', '.join(there)}")
    chosen = [p for p in planned if not job.only or p.program.name in job.only]
    tell(names=[p.program.name for p in chosen])
    for p in chosen:
        if p.program.name in job.done:
            continue
        beside = p.beside * topology.devices_per_chip
        tell(begin=ProgramPlan(p.program.name, p.stage, p.runs, beside, p.turns).as_json())
        _forget_peak()
        tell(plan=replace(plan_program(p, topology), compile_bytes=_peak_bytes()).as_json())


def _forget_peak() -> None:
    """Resets the peak of this process's memory, where the system can do that."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak_bytes() -> float:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        scale = 1 if sys.platform == "darwin" else 1024
        return float(scale * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    main()

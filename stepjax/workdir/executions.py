"""stages.jsonl of a work directory: on which machine each stage ran, with which versions, and how long."""

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from stepjax.errors import Stopped
from stepjax.parallel import is_main_process
from stepjax.workdir.code_version import code_version
from stepjax.workdir.json_lines import JsonLines

FILE = "stages.jsonl"


@contextmanager
def executed(workdir: Path, stage: str, mesh: Mesh) -> Iterator[None]:
    """Appends a line when the block ends or is told to stop; a stage that goes on later has a line for each part.

    A line holds stage, seconds (wall clock, compilation included), `stopped` where it was told to stop, devices, host
    and versions. A block that fails or is killed leaves none. Process 0 writes.
    """
    start = time.perf_counter()
    try:
        yield
    except Stopped:
        _append(workdir, stage, mesh, time.perf_counter() - start, stopped=True)
        raise
    _append(workdir, stage, mesh, time.perf_counter() - start)


def _append(workdir: Path, stage: str, mesh: Mesh, seconds: float, **more: bool) -> None:
    if is_main_process():
        lines = JsonLines(workdir / FILE)
        lines.append([{"stage": stage, "seconds": round(seconds, 2), **more, **machine(mesh)}])
        lines.close()


def machine(mesh: Mesh) -> dict[str, Any]:
    """Where a program runs: number and kind of the devices, host, versions of what computes."""
    code = code_version()
    versions = {"stepjax": code["version"], "jax": jax.__version__, "python": platform.python_version()}
    if code["commit"]:
        versions["commit"] = code["commit"]
    return {
        "devices": mesh.size,
        "device": mesh.devices.flat[0].device_kind,
        "processes": jax.process_count(),
        "cores": os.cpu_count(),
        "versions": versions,
    }

"""Joining the processes of a run: from the options, from STEPJAX_* variables, or from the cluster.

`join` must come before anything that starts a JAX backend.
"""

import ctypes
import os
import signal
import sys
import threading
from dataclasses import dataclass

import jax

from stepjax.config import DistributedOptions
from stepjax.distributed.watch import LOST
from stepjax.errors import UserError

COORDINATOR, PROCESSES, PROCESS = "STEPJAX_COORDINATOR", "STEPJAX_PROCESSES", "STEPJAX_PROCESS"


@dataclass(frozen=True)
class Place:
    """This process's place among the others; all fields None: JAX finds it out from the cluster.

    Attributes:
      coordinator: "host:port" of process 0.
      processes, process: how many there are, and which one this is.
    """

    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None


def find_place(options: DistributedOptions) -> Place | None:
    """This process's place among several; None where it runs alone.

    Raises:
      UserError: a part of the place is given and another is not, or they do not fit.
    """
    if options.start == "never":
        return None
    coordinator = options.coordinator or os.environ.get(COORDINATOR, "")
    processes = options.processes or _number(PROCESSES, 0)
    process = options.process if options.process >= 0 else _number(PROCESS, -1)
    if coordinator or processes or process >= 0:
        missing = [
            f"config.distributed.{name} (or ${variable})"
            for name, variable, given in (
                ("coordinator", COORDINATOR, bool(coordinator)),
                ("processes", PROCESSES, processes > 0),
                ("process", PROCESS, process >= 0),
            )
            if not given
        ]
        if missing:
            raise UserError(f"several processes: {missing[0]} is missing; give all three or none")
        if process >= processes:
            raise UserError(f"several processes: process {process} of {processes}; they count from 0")
        host, _, port = coordinator.rpartition(":")
        if not host or not port.isdecimal():
            raise UserError(f"several processes: the coordinator must be written host:port, not {coordinator!r}")
        return Place(coordinator, processes, process) if processes > 1 else None
    return Place() if _in_cluster() else None


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable, "")
    if not text:
        return default
    if not text.isdecimal():
        raise UserError(f"${variable}: must be a whole number, not {text!r}")
    return int(text)


def _in_cluster() -> bool:
    """Whether the environment announces several processes that JAX can find by itself: SLURM, Open MPI, a TPU pod."""
    known = os.environ
    slurm = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID")
    if all(name in known for name in slurm) and int(known.get("SLURM_NTASKS", "1")) > 1:
        return True
    if "OMPI_MCA_orte_hnp_uri" in known and int(known.get("OMPI_COMM_WORLD_SIZE", "1")) > 1:
        return True
    if known.get("JAX_PLATFORMS", "") == "cpu":
        return False
    if int(known.get("MEGASCALE_NUM_SLICES") or 1) > 1:
        return True
    if workers := known.get("TPU_PROCESS_ADDRESSES") or known.get("TPU_WORKER_HOSTNAMES"):
        return "," in workers
    from jax._src import cloud_tpu_init

    # A TPU virtual machine asks its metadata server; a slice of a single host joins as a process alone.
    return bool(cloud_tpu_init.running_in_cloud_tpu_vm) and "TPU_SKIP_MDS_QUERY" not in known


def join(place: Place, options: DistributedOptions) -> None:
    """Connects this process with the others; ends it where they do not all come within `options.join_timeout`.

    Raises:
      UserError: the cluster does not announce the others, or the address cannot be used.
    """
    # Ours stop a run after a lost process or a request to stop, with its name and in time: JAX's own come later.
    jax.config.update("jax_enable_preemption_service", False)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    _slow_aborts()
    where = place.coordinator or "as the cluster has it"
    joined = threading.Event()
    threading.Thread(target=_give_up, args=(joined, options.join_timeout, where), name="join", daemon=True).start()
    try:
        jax.distributed.initialize(
            place.coordinator,
            place.processes,
            place.process,
            cluster_detection_method=None if place.coordinator is None else "deactivate",
            # JAX's client aborts the process when its own time is up: ours comes first.
            initialization_timeout=round(options.join_timeout) + 60,
            heartbeat_timeout_seconds=round(max(4 * options.timeout, 100)),
            shutdown_timeout_seconds=round(max(options.timeout, 10)),
        )
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise UserError(
            f"the processes of this run cannot connect to each other (coordinator: {where}): {text}"
        ) from error
    finally:
        joined.set()


def _give_up(joined: threading.Event, seconds: float, where: str) -> None:
    if not joined.wait(seconds):
        text = f"the processes of this run did not all connect within {seconds:.0f} s (coordinator: {where})"
        print(f"stepjax: {text}; is every one of them started?", file=sys.stderr, flush=True)
        os._exit(LOST)


def _slow_aborts() -> None:
    """Delays the end of this process by six seconds after an abort.

    When the process with the coordination service dies, JAX's client aborts all others at once, from a thread of its
    own. As a handler of SIGABRT, libc's sleep(6), 6 being the signal's number, holds that thread alone, while the
    watch tells which process was lost and ends this one in order.
    """
    try:
        libc = ctypes.CDLL(None)
        libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
        libc.signal.restype = ctypes.c_void_p
        libc.signal(int(signal.SIGABRT), ctypes.cast(libc.sleep, ctypes.c_void_p))
    except (OSError, AttributeError):
        return  # no such libc: the abort comes at once, with JAX's own message

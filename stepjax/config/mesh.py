"""How devices and processes share the work."""

from dataclasses import dataclass

from stepjax.config.option import option


@dataclass(frozen=True)
class MeshOptions:
    data: int = option(-1, "devices along the batch (-1: all devices that the other axes leave)", resumable=True)
    fsdp: int = option(1, "devices along the batch over which parameters are also sharded", resumable=True)
    tensor: int = option(1, "devices along heads, MLP and vocabulary", resumable=True)
    context: int = option(
        1,
        "devices along the tokens of packed rows in training passes, for rows too long for one device; parameters are "
        "sharded over them, too, and rollouts use them along the batch",
        resumable=True,
    )
    gather_to_decode: bool = option(
        True,
        "a rollout gathers the policy's parameters over fsdp once, in the dtype of the computation, and keeps that "
        "copy until it ends; False: it gathers them at every step",
        resumable=True,
    )


@dataclass(frozen=True)
class DistributedOptions:
    """Several processes of one run, and how a process ends that received a signal or lost another process."""

    start: str = option(
        "auto",
        "auto (join the other processes that the options below, $STEPJAX_COORDINATOR, $STEPJAX_PROCESSES and "
        "$STEPJAX_PROCESS, SLURM, Open MPI, GKE or a TPU pod announce) or never (run as a single process)",
        choices=("auto", "never"),
        resumable=True,
    )
    coordinator: str = option("", "host:port of process 0; empty: from the environment", resumable=True)
    processes: int = option(0, "number of processes; 0: from the environment", least=0, resumable=True)
    process: int = option(-1, "index of this process, from 0; -1: from the environment", least=-1, resumable=True)
    join_timeout: float = option(300.0, "seconds within which all processes must have started", above=0, resumable=True)
    timeout: float = option(
        60.0,
        "seconds without a heartbeat after which a process counts as lost and the run ends",
        above=0,
        resumable=True,
    )
    stall: float = option(
        1800.0,
        "seconds that a process may keep the others waiting before the run ends; 0: no limit",
        least=0,
        resumable=True,
    )
    grace: float = option(
        25.0,
        "seconds from SIGTERM or a maintenance notice until the process ends, in which it finishes and saves a step",
        above=0,
        resumable=True,
    )

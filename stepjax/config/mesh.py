"""How devices and processes share the work."""

from dataclasses import dataclass

from stepjax.config.option import option


@dataclass(frozen=True)
class MeshOptions:
    data: int = option(-1, "devices along the batch (-1: all that the other axes leave)", resumable=True)
    fsdp: int = option(1, "devices along the batch over which parameters are also sharded", resumable=True)
    tensor: int = option(1, "devices along heads, MLP and vocabulary", resumable=True)
    gather_to_decode: bool = option(
        True,
        "a rollout gathers the policy's parameters over fsdp once, in the dtype of the computation, and keeps that "
        "copy until it ends; without, it gathers them at every step",
        resumable=True,
    )


@dataclass(frozen=True)
class DistributedOptions:
    """Several processes of one run, and how a process ends that was told to or that lost another."""

    start: str = option(
        "auto",
        "auto (join the other processes that the options below, $STEPJAX_COORDINATOR, $STEPJAX_PROCESSES and "
        "$STEPJAX_PROCESS, SLURM, Open MPI, GKE or a TPU pod speak of) or never (run alone)",
        choices=("auto", "never"),
        resumable=True,
    )
    coordinator: str = option("", "host:port of process 0; empty: as the environment says", resumable=True)
    processes: int = option(0, "how many processes; 0: as the environment says", least=0, resumable=True)
    process: int = option(-1, "which one this is, from 0; -1: as the environment says", least=-1, resumable=True)
    join_timeout: float = option(300.0, "seconds that the processes have to come together", above=0, resumable=True)
    timeout: float = option(
        60.0,
        "seconds without a sign of life after which a process counts as lost and the run ends",
        above=0,
        resumable=True,
    )
    stall: float = option(
        1800.0, "seconds that a process may let the others wait before the run ends; 0: any", least=0, resumable=True
    )
    grace: float = option(
        25.0,
        "seconds from SIGTERM or a notice of maintenance to the end, by which a step is done and saved",
        above=0,
        resumable=True,
    )

"""Where a process stands among others, as the options and the environment say."""

import os
import threading

import pytest

from stepjax.config import DistributedOptions
from stepjax.distributed import start
from stepjax.distributed.start import Place, find_place
from stepjax.errors import UserError

CLUSTER = ("STEPJAX_", "SLURM_", "OMPI_", "TPU_", "MEGASCALE_")


@pytest.fixture
def alone(monkeypatch):
    for name in [n for n in os.environ if n.startswith(CLUSTER)]:
        monkeypatch.delenv(name)
    return monkeypatch


def test_nothing_said_is_a_process_alone(alone):
    assert find_place(DistributedOptions()) is None


def test_the_environment_and_the_options_say_the_same(alone):
    options = DistributedOptions(coordinator="host:1234", processes=4, process=3)
    assert find_place(options) == Place("host:1234", 4, 3)
    alone.setenv("STEPJAX_COORDINATOR", "host:1234")
    alone.setenv("STEPJAX_PROCESSES", "4")
    alone.setenv("STEPJAX_PROCESS", "0")
    assert find_place(DistributedOptions()) == Place("host:1234", 4, 0)
    assert find_place(DistributedOptions(process=2)) == Place("host:1234", 4, 2), "an option goes before a variable"
    assert find_place(DistributedOptions(start="never")) is None
    alone.setenv("STEPJAX_PROCESSES", "1")
    assert find_place(DistributedOptions()) is None


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (DistributedOptions(processes=2, process=0), r"config\.distributed\.coordinator \(or \$STEPJAX_COORDINATOR\)"),
        (DistributedOptions(coordinator="a:1", process=0), r"config\.distributed\.processes"),
        (DistributedOptions(coordinator="a:1", processes=2), r"config\.distributed\.process "),
        (DistributedOptions(coordinator="a:1", processes=2, process=2), "process 2 of 2; they count from 0"),
        (DistributedOptions(coordinator="nowhere", processes=2, process=0), "host:port, not 'nowhere'"),
    ],
)
def test_half_a_place_is_a_mistake(alone, options, told):
    with pytest.raises(UserError, match=told):
        find_place(options)


def test_a_variable_that_is_no_number_is_a_mistake(alone):
    alone.setenv("STEPJAX_PROCESSES", "many")
    with pytest.raises(UserError, match=r"\$STEPJAX_PROCESSES: must be a whole number, not 'many'"):
        find_place(DistributedOptions())


@pytest.mark.parametrize(
    ("variables", "several"),
    [
        ({"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_PROCID": "1", "SLURM_LOCALID": "0"}, False),
        (
            {
                "SLURM_JOB_ID": "7",
                "SLURM_STEP_NODELIST": "n[1-2]",
                "SLURM_PROCID": "1",
                "SLURM_LOCALID": "0",
                "SLURM_NTASKS": "2",
            },
            True,
        ),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2"}, False),  # an allocation, no step of it
        ({"OMPI_MCA_orte_hnp_uri": "x", "OMPI_COMM_WORLD_SIZE": "8"}, True),
        ({"JAX_PLATFORMS": "", "TPU_WORKER_HOSTNAMES": "a,b"}, True),
        ({"JAX_PLATFORMS": "", "TPU_WORKER_HOSTNAMES": "a"}, False),
        ({"JAX_PLATFORMS": "", "TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_NUM_SLICES": "2"}, True),
        ({"JAX_PLATFORMS": "cpu", "TPU_WORKER_HOSTNAMES": "a,b"}, False),
    ],
)
def test_clusters(alone, variables, several):
    for name, value in variables.items():
        alone.setenv(name, value)
    assert find_place(DistributedOptions()) == (Place() if several else None)


def test_processes_that_do_not_all_come_are_told_of(monkeypatch, capfd):
    ended, joined = [], threading.Event()
    monkeypatch.setattr(start.os, "_exit", ended.append)
    start._give_up(joined, 0.05, "host:1234")
    assert ended == [75]
    assert capfd.readouterr().err.startswith(
        "stepjax: the processes of this run did not all connect within 0 s (coordinator: host:1234)"
    )
    joined.set()
    start._give_up(joined, 0.05, "host:1234")
    assert ended == [75]

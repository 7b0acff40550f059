"""Public figures of TPU chips and GPUs, and the topologies that libtpu compiles for without a TPU."""

import importlib.util
import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from stepjax.errors import UserError, nearest


@dataclass(frozen=True)
class Chip:
    """Of one chip: `flops` bfloat16 a second, HBM bytes and bytes a second, `network` bytes a second that all of its
    links together send (half of the maker's bidirectional bandwidth).

    `kinds`: JAX's name of a device of it (`jax.Device.device_kind`). `host_bytes`: the chip's part of the memory of the
    machine that it is in; None where no figure is known.
    """

    flops: float
    hbm_bytes: float
    hbm: float
    network: float
    kinds: tuple[str, ...] = ()
    host_bytes: float | None = None


# docs.cloud.google.com/tpu/docs, the pages of v4, v5e, v5p, v6e and TPU7x, "Key chip specifications"; the links of v4,
# which have no figure there: 6 of 45 GB/s [jax-ml.github.io/scaling-book, "How to Think About TPUs"]. Hosts: the RAM
# of a virtual machine with 4 chips, on the pages of v5e (192 GB) and v5p (448 GB).
CHIPS = {
    "v4": Chip(275e12, 32 * 2**30, 1.2e12, 270e9, ("TPU v4",)),
    "v5e": Chip(197e12, 16 * 2**30, 0.819e12, 200e9, ("TPU v5 lite", "TPU v5e"), 192e9 / 4),
    "v5p": Chip(459e12, 95 * 2**30, 2.765e12, 600e9, ("TPU v5", "TPU v5p"), 448e9 / 4),
    "v6e": Chip(918e12, 32 * 2**30, 1.64e12, 400e9, ("TPU v6 lite", "TPU v6e")),
    "tpu7x": Chip(2307e12, 192 * 2**30, 7.38e12, 600e9, ("TPU7x", "TPU v7x")),
}

# NVIDIA's data sheets: dense bfloat16, memory in units of 10^9, NVLink one way. `kinds`: the beginning of a name.
GPUS = {
    "b200": Chip(2250e12, 180e9, 8.0e12, 900e9, ("NVIDIA B200",)),
    "h200": Chip(989e12, 141e9, 4.8e12, 450e9, ("NVIDIA H200",)),
    "h100": Chip(989e12, 80e9, 3.35e12, 450e9, ("NVIDIA H100 80GB HBM3",)),
    "h100-pcie": Chip(756e12, 80e9, 2.0e12, 300e9, ("NVIDIA H100 PCIe",)),
    "a100": Chip(312e12, 80e9, 2.039e12, 300e9, ("NVIDIA A100-SXM4-80GB", "NVIDIA A100-SXM-80GB")),
    "a100-40gb": Chip(312e12, 40e9, 1.555e12, 300e9, ("NVIDIA A100-SXM4-40GB", "NVIDIA A100-SXM-40GB")),
    "a100-pcie": Chip(312e12, 80e9, 1.935e12, 300e9, ("NVIDIA A100 80GB PCIe",)),
}

REACHED = {"compute": 0.6, "memory": 0.8, "network": 0.7}
"""Fraction of a chip's public figures that a program is assumed to reach."""

EXAMPLES = "v4:2x2x1, v5e:2x2, v5e:16x16, v5p:4x4x4, v6e:16x16, tpu7x:2x2x1"


@dataclass(frozen=True)
class Topology:
    """Devices to compile for. A chip may be two of them (v4's cores, the halves of a tpu7x)."""

    name: str
    chip: Chip
    chips: int
    devices: tuple[Any, ...]

    @property
    def devices_per_chip(self) -> int:
        return len(self.devices) // self.chips


def chip_of(kind: str) -> Chip | None:
    """The chip of a device by `jax.Device.device_kind`; None where its figures are not known, as of a CPU."""
    exact = next((chip for chip in CHIPS.values() if kind in chip.kinds), None)
    return exact or next((chip for chip in GPUS.values() if kind.startswith(chip.kinds)), None)


def chips_of(devices: Iterable[Any]) -> list[Chip] | None:
    """The chips that the devices are, or are parts of; None where one is of unknown kind."""
    chips: dict[Any, Chip] = {}
    for i, device in enumerate(devices):
        chip = chip_of(device.device_kind)
        if chip is None:
            return None
        # Two devices of one chip have the same place in the network.
        place = getattr(device, "coords", None)
        chips[i if place is None else (getattr(device, "slice_index", 0), *place)] = chip
    return list(chips.values())


def peak_flops(devices: Iterable[Any]) -> float | None:
    """bfloat16 FLOPs per second of all devices together; None where one is of unknown kind, such as a CPU."""
    chips = chips_of(devices)
    return None if chips is None else sum(chip.flops for chip in chips)


def open_topology(name: str) -> Topology:
    """The topology of a name such as `v5e:16x16` (kind of chip, chips along each axis of the network).

    Raises:
      UserError: libtpu is not installed, or there is no such topology.
    """
    kind, _, axes = name.partition(":")
    if kind in GPUS:
        raise UserError(
            f"--topology={name}: without a GPU no program can be compiled for one; plan for TPUs ({EXAMPLES}), and "
            "on a GPU measure with stepjax bench, which predicts from the chip's figures"
        )
    if kind not in CHIPS:
        raise UserError(f"--topology={name}: no such chip{nearest(kind, CHIPS)}; known names are like {EXAMPLES}")
    if not re.fullmatch(r"[1-9]\d{0,2}(x[1-9]\d{0,2}){1,2}", axes):
        raise UserError(f"--topology={name}: write chips along each axis, as in {EXAMPLES}")
    if importlib.util.find_spec("libtpu") is None:
        raise UserError("stepjax plan needs libtpu, no TPU: pip install 'stepjax[plan]'")
    # Without these libtpu asks a metadata server what machine this is, or takes a lock that is for chips.
    for variable, value in {
        "TPU_SKIP_MDS_QUERY": "1",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        "TPU_ACCELERATOR_TYPE": "v5litepod-4",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_WORKER_ID": "0",
        "TPU_STDERR_LOG_LEVEL": "3",
        "TPU_MIN_LOG_LEVEL": "3",
    }.items():
        if os.environ.get(variable, "WARNING").startswith("WARNING"):  # what JAX leaves there when it finds no TPU
            os.environ[variable] = value
    import jax
    from jax.experimental import topologies

    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=name)
    except (jax.errors.JaxRuntimeError, RuntimeError, ValueError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"--topology={name}: libtpu has no such topology ({reason}); try {EXAMPLES}") from None
    chips = math.prod(int(n) for n in axes.split("x"))
    return Topology(name, CHIPS[kind], chips, tuple(found.devices))

"""A machine without a TPU that has libtpu, for plans: JAX would start it, and it would say in many lines what lacks."""

import importlib.util
import os
import pkgutil
from importlib.metadata import entry_points
from pathlib import Path

DEVICES = ("accel[0-9]*", "vfio/[0-9]*")
"""What a TPU's chips are called in /dev."""


def skip_absent_tpu(devices: Path = Path("/dev")) -> None:
    """Sets JAX_PLATFORMS=cpu where libtpu is installed, no chip is there, and JAX has no backend but those two.

    Whatever the environment asks for stays. It must be called before JAX is imported.
    """
    if "JAX_PLATFORMS" in os.environ or "JAX_FORCE_TPU_INIT" in os.environ or not _has_libtpu():
        return
    if any(next(devices.glob(name), None) for name in DEVICES) or _other_backends():
        return
    os.environ["JAX_PLATFORMS"] = "cpu"


def _has_libtpu() -> bool:
    return importlib.util.find_spec("libtpu") is not None


def _other_backends() -> bool:
    """Whether a plugin for another kind of device is installed, in one of the two ways that JAX knows."""
    found = importlib.util.find_spec("jax_plugins")
    inside = (
        pkgutil.iter_modules(found.submodule_search_locations) if found and found.submodule_search_locations else ()
    )
    return any(True for _ in inside) or bool(entry_points(group="jax_plugins"))

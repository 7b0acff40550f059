"""Tests run on eight CPU devices, whatever the machine has: the flags must be set before JAX starts.

Programs of tests are small and run a few times: they spend their time compiling. So LLVM's slow passes are left out,
and a fused loop becomes LLVM code directly, not by way of MLIR, which takes three times as long.
"""

import gc
import os
from importlib.metadata import version
from pathlib import Path

import pytest

PLATFORM = os.environ.get("STEPJAX_TEST_PLATFORM", "cpu")  # another one: tests/device
_FLAGS = ("--xla_force_host_platform_device_count=8", "--xla_backend_optimization_level=0")
_KNOWN = tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11)  # a later one may end the process at this flag
FUSED_AT_ONCE = " --xla_cpu_use_fusion_emitters=false" if _KNOWN and PLATFORM == "cpu" else ""
os.environ["JAX_PLATFORMS"] = PLATFORM
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *_FLAGS]) + FUSED_AT_ONCE
os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"  # programs hold no lines of code, for a tenth of the time
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Tracing makes many objects that live on: looking through them took a tenth of the time.
gc.set_threshold(20_000, 20, 20)

pytest_plugins = ["runs.tiny_run"]

LONG = (
    *("studies", "docs", "distributed", "fuzz", "runs", "improve", "plan", "search", "labels", "hacks", "evaluation"),
    *("test_errors.py", "learners", "rollout", "models", "bench"),
)
"""Folders and files of tests that take long: they begin first, so that pytest's processes end together."""


@pytest.fixture
def libtpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that compile for a TPU, whose library ends the process at that flag; JAX has read it by then."""
    pytest.importorskip("libtpu")
    import jax

    jax.devices()
    monkeypatch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"].replace(FUSED_AT_ONCE, ""))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def order(item: pytest.Item) -> int:
        first = item.path.relative_to(Path(__file__).parent).parts[0]
        return LONG.index(first) if first in LONG else len(LONG)

    items.sort(key=order)

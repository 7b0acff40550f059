"""Where libtpu is installed and no TPU is there, JAX is not asked to start one."""

import os

import pytest

from stepjax.distributed import absent_tpu
from stepjax.distributed.absent_tpu import skip_absent_tpu


@pytest.fixture
def platforms(monkeypatch, tmp_path):
    """What JAX_PLATFORMS becomes on a machine with these files in /dev, with or without libtpu and a plugin."""

    def asked(*devices: str, libtpu: bool = True, plugin: bool = False, **environment: str) -> str | None:
        for name in ("JAX_PLATFORMS", "JAX_FORCE_TPU_INIT"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(absent_tpu, "_has_libtpu", lambda: libtpu)
        monkeypatch.setattr(absent_tpu, "_other_backends", lambda: plugin)
        for device in devices:
            (tmp_path / device).parent.mkdir(exist_ok=True)
            (tmp_path / device).touch()
        skip_absent_tpu(tmp_path)
        return os.environ.get("JAX_PLATFORMS")

    return asked


def test_only_the_cpu_is_left(platforms):
    assert platforms() == "cpu"
    assert platforms("vfio/vfio") == "cpu", "the driver alone is no chip"


@pytest.mark.parametrize("device", ["accel0", "vfio/0", "vfio/17"])
def test_a_chip_is_used(platforms, device):
    assert platforms(device) is None


def test_nothing_else_is_touched(platforms):
    assert platforms(libtpu=False) is None
    assert platforms(plugin=True) is None, "a GPU's plugin may be wanted"
    assert platforms(JAX_PLATFORMS="tpu") == "tpu" and platforms(JAX_PLATFORMS="") == ""
    assert platforms(JAX_FORCE_TPU_INIT="1") is None

"""Tests run on eight CPU devices, whatever the machine has: the flags must be set before JAX starts.

Programs of tests are small and run a few times: they spend their time compiling, so LLVM's slow passes are left out.
"""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
_FLAGS = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAGS}"
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

pytest_plugins = ["runs.tiny_run"]

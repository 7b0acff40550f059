"""What loading costs: seconds and peak memory of a checkpoint of Qwen2-0.5B's shape, about 1 GB of bfloat16."""

import json
import os
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from models.family_cases import tensor_shapes

from stepjax.models.safetensors_file import write_file

QWEN2_05B = {
    "model_type": "qwen2",
    "vocab_size": 151936,
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": True,
}

MEASURE = r"""
import json, re, sys, time
import jax
from stepjax.models import load_pretrained
from stepjax.parallel import make_mesh
jax.block_until_ready(jax.numpy.zeros(8))

def memory(name):
    return int(re.search(name + r":\s*(\d+) kB", open("/proc/self/status").read())[1]) * 1024

sizes = json.loads(sys.argv[2])
mesh = make_mesh(*sizes, devices=jax.devices()[: sizes[0] * sizes[1] * sizes[2]])
before = memory("VmRSS")
start = time.perf_counter()
model = load_pretrained(sys.argv[1], mesh=mesh)
jax.block_until_ready(model.params)
seconds = time.perf_counter() - start
peak = memory("VmHWM") - before
held = {}
for x in jax.tree.leaves(model.params):
    for shard in x.addressable_shards:
        held[str(shard.device)] = held.get(str(shard.device), 0) + shard.data.nbytes
print(json.dumps({"seconds": seconds, "peak": peak, "held": sorted(held.values())}))
"""


def write_random(folder, config):
    """The checkpoint; numbers repeat, since drawing half a billion takes longer than what is measured."""
    (folder / "config.json").write_text(json.dumps(config))
    few = (0.02 * np.random.default_rng(0).standard_normal(1_000_003)).astype(ml_dtypes.bfloat16)
    shapes = {name: (shape, np.dtype(ml_dtypes.bfloat16)) for name, shape in tensor_shapes(config).items()}
    write_file(folder / "model.safetensors", shapes, (np.resize(few, shape) for shape, _ in shapes.values()))
    return (folder / "model.safetensors").stat().st_size


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_loading_needs_little_more_than_the_weights_themselves(tmp_path, capsys):
    size = write_random(tmp_path, QWEN2_05B)
    assert 0.9e9 < size < 1.1e9
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    for mesh in ((1, 1, 1), (1, 4, 2)):
        argv = [sys.executable, "-c", MEASURE, str(tmp_path), json.dumps(mesh)]
        done = subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=170)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout.splitlines()[-1])
        with capsys.disabled():
            print(
                f"\n{size / 1e9:.2f} GB of bfloat16 on mesh {mesh}: {found['seconds']:.1f} s, peak memory "
                f"{found['peak'] / size:.2f} × the weights, largest shard {found['held'][-1] / size:.3f} of them"
            )
        assert found["peak"] <= 1.4 * size
        # Norms and biases are small; all else is divided, the 2 key heads over the 2 tensor devices too.
        devices = mesh[0] * mesh[1] * mesh[2]
        assert len(found["held"]) == devices and found["held"][-1] <= 1.01 * size / devices

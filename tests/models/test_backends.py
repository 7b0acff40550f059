"""Which attention and which layout of the layers are chosen; cuDNN's call against XLA (its own kernel needs a GPU)."""

import dataclasses
import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models.tiny import CONFIG

from stepjax.errors import UserError
from stepjax.models.attention import attend, causal_bias
from stepjax.models.backends import choose_attention, decodes_apart, suits_apart
from stepjax.models.cudnn import cudnn_attention

HALF = dataclasses.replace(CONFIG, dtype=jnp.bfloat16)


def on(platform):
    return SimpleNamespace(devices=np.array([SimpleNamespace(platform=platform)], object))


@pytest.mark.parametrize(
    "asked, config, platform, chosen",
    [
        ("auto", CONFIG, "cpu", "xla"),
        ("auto", CONFIG, "tpu", "splash"),
        ("xla", CONFIG, "tpu", "xla"),
        ("auto", HALF, "gpu", "cudnn"),
        ("auto", CONFIG, "gpu", "xla"),
        ("auto", dataclasses.replace(HALF, attention_cap=50.0), "gpu", "xla"),
        ("auto", dataclasses.replace(HALF, head_dim=256), "gpu", "xla"),
        ("cudnn", CONFIG, "gpu", "it computes in bfloat16, not in float32"),
        ("cudnn", dataclasses.replace(HALF, attention_cap=50.0), "gpu", "no soft cap"),
        ("cudnn", HALF, "tpu", "it runs on NVIDIA GPUs"),
        ("splash", HALF, "gpu", "it runs on TPU"),
    ],
)
def test_the_kernel_fits_the_devices_and_the_decoder(asked, config, platform, chosen):
    if " " in chosen:
        with pytest.raises(UserError, match=chosen):
            choose_attention(asked, config, on(platform))
    else:
        assert choose_attention(asked, config, on(platform)) == chosen


def test_what_cudnn_is_asked_is_the_same_attention(monkeypatch):
    asked = {}

    def by_xla(*args, implementation, **kwargs):
        asked["implementation"] = implementation
        return whole(*args, **kwargs)

    whole = jax.nn.dot_product_attention
    monkeypatch.setattr(jax.nn, "dot_product_attention", by_xla)
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(2, h, 12, 8)).astype(np.float32) for h in (6, 3, 3))
    positions = np.tile(np.arange(12, dtype=np.int32), (2, 1))
    segments = np.stack([np.repeat([1, 2], 6), np.repeat([0, 1], [3, 9])]).astype(np.int32)
    bias = causal_bias(positions, segments, positions, segments)
    wanted = functools.partial(attend, scale=0.4)(q, k, v, bias)
    found = cudnn_attention(q, k, v, bias > -1.0, scale=0.4)
    real = (segments > 0)[:, None, :, None]
    np.testing.assert_allclose(np.where(real, found, 0), np.where(real, wanted, 0), rtol=1e-5, atol=1e-5)
    assert asked["implementation"] == "cudnn" and np.isfinite(found).all()


@pytest.mark.parametrize(("platform", "apart"), [("cpu", True), ("tpu", False), ("gpu", False), ("cuda", False)])
def test_layers_are_apart_where_stacked_ones_would_be_copied(platform: str, apart: bool) -> None:
    assert suits_apart(platform) is apart


def test_what_a_config_says_of_its_layers_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert decodes_apart(CONFIG) and decodes_apart(dataclasses.replace(CONFIG, unroll=1))
    assert not decodes_apart(dataclasses.replace(CONFIG, decode_apart=False, unroll=CONFIG.layers))
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert not decodes_apart(CONFIG) and decodes_apart(dataclasses.replace(CONFIG, decode_apart=True))

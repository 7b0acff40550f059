"""Traces of some steps of a stage, and the rates in its metrics."""

import json
import shutil
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs.tiny_run import start

from stepjax.chips import CHIPS, peak_flops
from stepjax.errors import UserError
from stepjax.runs.profile import Profile, profiled_steps
from stepjax.runs.throughput import UpdateRates


def traces(folder):
    return sorted(p.name for p in folder.rglob("*.xplane.pb"))


def test_the_named_steps_are_traced(tmp_path):
    with Profile("2:4", tmp_path, "sft") as profile:
        for step in range(1, 6):
            with profile.step(step) as traced:
                traced.append(jnp.ones(3) * step)
            assert bool(traces(tmp_path)) == (step >= 3), "the trace is written when its last step is done"
    found = list((tmp_path / "profile" / "sft").rglob("*.xplane.pb"))
    assert len(found) == 1
    assert b"sft" in found[0].read_bytes(), "steps have the stage's name"


@pytest.mark.parametrize("ends", [lambda: None, lambda: (_ for _ in ()).throw(KeyError("x"))])
def test_a_trace_is_ended_with_the_stage(tmp_path, ends):
    try:
        with Profile("1:9", tmp_path, "ppo") as profile, profile.step(1):
            ends()
    except KeyError:
        pass
    assert len(traces(tmp_path)) == 1
    jax.profiler.start_trace(str(tmp_path / "again"))  # would be an error while another one ran
    jax.profiler.stop_trace()


def test_no_profile_writes_nothing(tmp_path):
    with Profile("", tmp_path, "ppo") as profile, profile.step(1):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["3", "0:2", "4:4", "5:2", "a:b", "1:2:3", "-1:3", "1:1000"])
def test_a_malformed_range_is_said_in_one_line(text):
    with pytest.raises(UserError, match=rf"config.profile={text}: "):
        profiled_steps(text)
    assert profiled_steps("3:6") == range(3, 6)


def device(kind, coords=None):
    return types.SimpleNamespace(device_kind=kind, **({} if coords is None else {"coords": coords}))


def test_peak_of_devices():
    assert peak_flops([device("cpu")]) is None
    assert peak_flops([device("TPU v5 lite", (0, 0, 0)), device("TPU v5 lite", (1, 0, 0))]) == 2 * CHIPS["v5e"].flops
    # Two devices at one place are halves of a chip.
    assert peak_flops([device("TPU7x", (0, 0, 0)), device("TPU7x", (0, 0, 0))]) == CHIPS["tpu7x"].flops
    assert peak_flops([device("NVIDIA A100-SXM4-80GB")] * 2) == 2 * 312e12
    assert peak_flops([device("NVIDIA H100 80GB HBM3"), device("NVIDIA GeForce")]) is None


def test_rates_of_updates(monkeypatch):
    now = iter([10.0, 14.0, 100.0, 101.0])
    monkeypatch.setattr("stepjax.runs.throughput.time.perf_counter", lambda: next(now))
    definition = types.SimpleNamespace(
        axes={"head": ("embed", "outputs")}, shapes={"head": jax.ShapeDtypeStruct((8, 2), jnp.float32)}
    )
    mesh = types.SimpleNamespace(devices=np.array([device("TPU v5 lite", (0, 0, 0))], dtype=object))
    rates = UpdateRates(types.SimpleNamespace(mesh=mesh), definition, tokens=100)
    rates.begin(1)
    rates.begin(2)  # the first call alone starts the clock
    found = rates.at(3)
    assert found["rate/tokens"] == pytest.approx(50)
    assert found["rate/model_tflops"] == pytest.approx(6 * 16 * 50 / 1e12)
    assert found["rate/mfu"] == pytest.approx(6 * 16 * 50 / 197e12)
    rates.skip()
    assert rates.at(5)["rate/tokens"] == pytest.approx(200)


@pytest.mark.slow
def test_a_run_tells_its_rates_and_traces_a_round(tiny, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(tiny.workdir, workdir)
    more = ("--config.ppo.iterations=14", "--config.profile=14:15")
    # In a process of its own: once libtpu is loaded, as by the tests that compile for a TPU, JAX's profiler crashes.
    process = start("ppo", tiny.config, workdir, *more)
    out, error = process.communicate(timeout=600)
    assert process.returncode == 0, out + error
    assert len(traces(workdir / "profile" / "ppo")) == 1
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    ppo = [row for row in rows if row["stage"] == "ppo"]
    # Nothing is said of the first round of a process, in which programs are compiled.
    assert [("rate/tokens" in row) for row in ppo] == [row["step"] not in (1, 13) for row in ppo]
    last = ppo[-1]
    assert last["rate/tokens"] > 0 and "rate/mfu" not in last, "a CPU has no peak in the table"
    assert {"rollout", "score", "update", "rate"} <= set(last["seconds"])
    # A forward pass of policy (3), critic and reward model, and 2 passes of training of both, over at least the
    # response's tokens; some tens of thousands of parameters.
    needed = last["rate/model_tflops"] * 1e12 / last["rate/tokens"]
    assert 2 * 17 * 10_000 < needed < 2 * 17 * 10 * 40_000
    sft = [row for row in rows if row["stage"] == "sft"]
    assert all(row["rate/tokens"] > 0 and row["rate/model_tflops"] > 0 for row in sft[1:])

"""`stepjax bench`: lines in the keys of the scripts that time other software, figures that hold together, errors."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from runs.tiny_run import environment

from stepjax.bench import machine
from stepjax.bench.command import show_tables
from stepjax.bench.profile import profile
from stepjax.cli import main
from stepjax.credit.gae import segment_gae
from stepjax.parallel import make_mesh, replicated
from stepjax.programs import Program

TINY = [
    "--config.shape=own",
    *("--config.model.layers=1", "--config.model.width=32", "--config.model.heads=2", "--config.model.kv_heads=2"),
    *("--config.model.mlp=48", "--config.model.vocab=64", "--config.ppo.epochs=1", "--config.ppo.minibatches=2"),
    *("--config.rows=16", "--config.prompt_tokens=8", "--config.new_tokens=12", "--config.repeats=2"),
    *("--config.slots=8", "--config.unroll=1", "--config.ppo.halvings=0", "--config.prm.reader_layers=0"),
]
ROLLOUT_KEYS = {"peer", "shape", "mean", "repeat", "useful_tokens", "seconds", "tokens_per_second", "jax"}
UPDATE_KEYS = {"peer", "shape", "rows", "new_tokens", "seconds", "trained_tokens_per_second", "jax"}


@pytest.fixture(autouse=True)
def quick_machine(monkeypatch):
    monkeypatch.setattr(machine, "LONG_ENOUGH", 0.0)
    monkeypatch.setenv("STEPJAX_QUIET", "1")


@pytest.fixture
def lines_of_code(monkeypatch):
    """Programs tell where their operations come from, as they do for users."""
    monkeypatch.delenv("JAX_TRACEBACK_IN_LOCATIONS_LIMIT")
    before = jax.config.jax_traceback_in_locations_limit
    jax.config.update("jax_traceback_in_locations_limit", 10)
    yield
    jax.config.update("jax_traceback_in_locations_limit", before)


def lines_of(capsys, *arguments):
    assert main(["bench", *arguments, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.slow
def test_an_iteration_times_and_profiles_every_program(capsys, lines_of_code):
    # In a process of its own: once libtpu is loaded, as by the tests that compile for a TPU, JAX's profiler crashes.
    code = (
        "import sys; from stepjax.bench import machine; from stepjax.cli import main; "
        "machine.LONG_ENOUGH = 0.0; sys.exit(main(sys.argv[1:]))"
    )
    argv = [sys.executable, "-c", code, "bench", "iteration", *TINY, "--profile", "--config.mesh.data=2", "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, env=environment(), timeout=600, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [x["repeat"] for x in lines] == [1, 2, "median"] and all(set(x) >= UPDATE_KEYS for x in lines)
    last = lines[-1]
    names = ["rollout", "score", "credit", "update"]
    assert list(last["seconds"]) == list(last["compile_seconds"]) == list(last["profile"]) == names
    assert last["rows"] == 16 and last["useful_tokens"] <= 16 * (8 + 12)
    rate = last["useful_tokens"] / sum(last["seconds"].values())
    assert last["trained_tokens_per_second"] == pytest.approx(rate, rel=0.02)
    for kind in ("flops", "bytes"):
        machine_rate = last["matrix_flops" if kind == "flops" else "copy_bandwidth"]
        assert 0 < last[f"{kind}_per_second"] == pytest.approx(last[f"{kind}_share"] * machine_rate)
    assert last["program_bytes"] > 10_000 and last["resident_bytes"] > 10**8
    for costs in last["profile"].values():
        assert 0 < len(costs) <= 3 and 0 < sum(c["share"] for c in costs) <= 1 + 1e-6
        assert all(c["seconds"] > 0 and c["count"] > 0 for c in costs)
    show_tables(lines)
    out = capsys.readouterr().out
    assert (
        "iteration, shape own" in out and "median" in out and "of a copy's" in out and "largest costs of update" in out
    )
    assert all(any("." in c["name"] and ": " in c["name"] for c in costs) for costs in last["profile"].values())


def test_a_rollout_of_geometric_lengths_counts_useful_tokens_alone(capsys):
    lines = lines_of(capsys, "rollout", *TINY, "--config.mesh.data=1", "--config.mean_length=4", "--config.samples=2")
    assert all(set(x) >= ROLLOUT_KEYS for x in lines)
    assert {x["useful_tokens"] < 16 * 12 for x in lines} == {True}
    assert lines[0]["useful_tokens"] != lines[1]["useful_tokens"]  # each repeat draws anew
    for x in lines:
        assert x["tokens_per_second"] == pytest.approx(x["useful_tokens"] / x["seconds"], rel=0.02)
    last = lines[-1]
    assert 0 < last["slot_occupancy_whole"] <= last["slot_occupancy"] == 1 and 0 < last["useful_share"] < 1
    assert last["slots"] == 8 and last["decode_steps"] >= 12
    assert last["prefill_seconds"] > 0 and last["prefill_ratio"] == pytest.approx(
        last["prefill_seconds"] / last["prefill_seconds_one_sample"]
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name the program to time: stepjax bench rollout|score|credit|update|iteration"),
        (["rolout"], "no program 'rolout' (did you mean 'rollout'?)"),
        (["rollout", "--config.shape=7b"], "config.bench.shape: must be one of 1m, 30m, 135m, 0.5b, own, not '7b'"),
        (["update", "--config.rows=6", "--config.samples=4"], "config.samples: 4 responses per prompt"),
        (["update", "--config.repeats=0"], "config.bench.repeats: must be at least 1"),
        (["update", "more"], "what is 'more'?"),
    ],
)
def test_mistakes_are_said_in_one_line(capsys, arguments, said):
    assert main(["bench", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"stepjax: {said}") and error.count("\n") == 1


def test_options_of_rounds_that_a_shape_sets_are_said_to_be_unread(capsys):
    assert main(["bench", "update", "--config.rows=6", "--config.samples=4", "--config.ppo.slots=3"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first == "bench: config.ppo.slots=3 is not read with shape 1m; see config.slots"
    assert second.startswith("stepjax: config.samples: 4 responses")


def test_a_profile_names_the_function_that_an_operation_came_from(lines_of_code):
    mesh = make_mesh(1, 1, 1, devices=jax.devices()[:1])
    like = jax.ShapeDtypeStruct((64, 512), jnp.float32, sharding=replicated(mesh))

    def credit(rewards, values):
        ones = jnp.ones(rewards.shape, bool)
        return segment_gae(rewards, values @ jnp.ones((512, 512)), ones, ones, gamma=1.0, lam=0.9)

    program = Program("credit", credit, mesh=mesh, inputs=(like, like))
    x = jax.device_put(jnp.ones((64, 512)), replicated(mesh))
    other = jax.jit(lambda x: jnp.sort(x, axis=0))
    costs = profile(program, lambda: jax.block_until_ready((program(x, x), other(x))), most=20)
    assert any("gae." in c.name for c in costs) and not any("sort" in c.name for c in costs)
    assert sum(c.share for c in costs) <= 1 + 1e-6 and costs == sorted(costs, key=lambda c: -c.seconds)


def test_the_machine_is_measured_on_all_devices_of_a_mesh():
    alone, mesh = make_mesh(1, 1, 1, devices=jax.devices()[:1]), make_mesh(2, 2, 2)
    assert 1e8 < machine.matrix_flops(alone, jnp.float32, largest=512) < 1e15
    assert 1e7 < machine.copy_bandwidth(mesh, largest=2**20) < 1e14

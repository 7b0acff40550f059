import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from stepjax import programs
from stepjax.parallel import make_mesh, put, replicated
from stepjax.phases import listening
from stepjax.programs import Program, abstract


def double(mesh):
    rows = NamedSharding(mesh, P("data"))
    inputs = (jax.ShapeDtypeStruct((8, 4), jnp.float32, sharding=rows),)
    return Program("double", lambda x: 2 * x, mesh=mesh, inputs=inputs, donate=(0,), out_shardings=rows)


def test_a_program_compiles_once_and_donates_its_input():
    program = double(make_mesh())
    assert program.compile_seconds is None
    assert program.compile() is program.compile()
    x = put(np.ones((8, 4), np.float32), program.inputs[0].sharding)
    y = program(x)
    assert x.is_deleted() and program.compile_seconds > 0
    np.testing.assert_array_equal(np.asarray(y), 2.0)
    assert y.sharding == program.inputs[0].sharding


def test_other_shapes_are_an_error_not_a_recompilation():
    program = double(make_mesh())
    with pytest.raises((TypeError, ValueError)):
        program(put(np.ones((16, 4), np.float32), program.inputs[0].sharding))


def test_outputs_are_known_without_compiling():
    program = double(make_mesh())
    assert program.outputs().shape == (8, 4) and program.outputs().sharding == program.inputs[0].sharding
    assert program.compile_seconds is None


def test_abstract_keeps_shapes_and_shardings():
    mesh = make_mesh(1, 4, 2)
    x = jax.device_put(jnp.ones((4, 2)), NamedSharding(mesh, P("fsdp")))
    assert abstract({"x": x})["x"].sharding == x.sharding
    assert abstract({"x": x}, replicated(mesh))["x"].sharding == replicated(mesh)


def test_a_program_larger_than_the_memory_says_which_options_it_grows_with(monkeypatch):
    """And runs: the system may have room."""
    monkeypatch.setattr(programs, "oversized", [])
    told, mesh = [], make_mesh()
    small, large = double(mesh), double(mesh)
    large.grows_with = "config.ppo.max_new_tokens"
    needed = programs.program_bytes(large.compile())
    x = np.ones((8, 4), np.float32)
    assert x.nbytes // mesh.size <= needed < 1000
    with listening(lambda text: None, told.append):
        monkeypatch.setattr(programs, "device_bytes", lambda mesh: needed)
        small(put(x, small.inputs[0].sharding))
        assert not told
        monkeypatch.setattr(programs, "device_bytes", lambda mesh: needed - 1)
        for _ in range(2):
            np.testing.assert_array_equal(np.asarray(large(put(x, large.inputs[0].sharding))), 2.0)
    assert told == programs.oversized and len(told) == 1, "once"
    assert told[0].startswith("program double needs") and told[0].endswith(": set or lower config.ppo.max_new_tokens")


def test_cpu_devices_share_the_memory_of_the_host():
    one, all_of_them = (programs.device_bytes(make_mesh(n, devices=jax.devices()[:n])) for n in (1, 8))
    assert one is not None and all_of_them == one // 8 and one > 2**28

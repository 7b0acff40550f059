import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from stepjax.errors import UserError
from stepjax.parallel import batch_sharding, constrain, fetch, make_mesh, partition_spec, put


def test_minus_one_takes_the_devices_that_are_left():
    assert dict(make_mesh().shape) == {"data": 8, "fsdp": 1, "context": 1, "tensor": 1}
    assert dict(make_mesh(-1, 2, 2).shape) == {"data": 2, "fsdp": 2, "context": 1, "tensor": 2}
    assert dict(make_mesh(1, 4, -1).shape) == {"data": 1, "fsdp": 4, "context": 1, "tensor": 2}
    assert dict(make_mesh(2, 1, 1, -1).shape) == {"data": 2, "fsdp": 1, "context": 4, "tensor": 1}


@pytest.mark.parametrize(
    "sizes", [(16, 1, 1), (-1, -1, 1), (0, 1, 1), (-1, 3, 1), (-2, 1, 1), (1, 1, 1, 16), (-1, 1, 1, 3), (1, 1, 1, 0)]
)
def test_meshes_that_do_not_fit_are_user_errors(sizes):
    with pytest.raises(UserError, match=r"config\.mesh"):
        make_mesh(*sizes)


def test_logical_names_become_mesh_axes():
    assert partition_spec(("embed", "mlp")) == P(("context", "fsdp"), "tensor")
    assert partition_spec(("batch", "time", "width")) == P(("context", "data", "fsdp"))
    mesh = make_mesh(1, 4, 2)
    assert partition_spec(("embed", "kv_heads", "head_dim"), (8, 1, 16), mesh) == P(("context", "fsdp"))
    assert partition_spec(("embed", "kv_heads", "head_dim"), (6, 2, 16), mesh) == P(None, "tensor")


def test_of_several_axes_those_that_divide_are_taken_from_the_first_on():
    mesh = make_mesh(1, 4, 1, 2)
    assert partition_spec(("embed",), (16,), mesh) == P(("context", "fsdp"))
    assert partition_spec(("embed",), (6,), mesh) == P("context")
    assert partition_spec(("embed",), (5,), mesh) == P()


def test_put_and_fetch_are_inverse_and_shard_rows():
    mesh = make_mesh(2, 4, 1)
    x = np.arange(16 * 3).reshape(16, 3)
    placed = put({"x": x}, batch_sharding(mesh))["x"]
    assert {s.data.shape for s in placed.addressable_shards} == {(2, 3)}
    np.testing.assert_array_equal(fetch(placed), x)


def test_constrain_without_a_mesh_changes_nothing():
    x = jax.numpy.ones((2, 3))
    assert constrain(x, "batch", "time") is x

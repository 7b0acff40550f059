"""Checkpoints: what is saved is restored, on another mesh too, in part too, and the newest are kept."""

import os
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from workdir.checkpoint_state import abstract, make_state, mesh, same

from stepjax.errors import UserError
from stepjax.workdir import checkpoint_format as fmt
from stepjax.workdir.checkpoints import Checkpoints, restore_params


def test_round_trip_and_host_part(tmp_path: Path) -> None:
    state, host = make_state(mesh(8)), {"step": 3, "data": {"position": [1, 2]}}
    with Checkpoints(tmp_path / "sft") as checkpoints:
        assert checkpoints.latest() is None
        checkpoints.save(3, state, host)
        host["data"]["position"].append(3)  # the caller's dict may go on changing
        assert checkpoints.latest() == 3
        restored, restored_host = checkpoints.restore(None, abstract(state))
    same(restored, state)
    assert restored_host == {"step": 3, "data": {"position": [1, 2]}}
    assert sorted(os.listdir(tmp_path / "sft")) == ["3"]


@pytest.mark.parametrize("sizes", [(4,), (1,), (2, 4)])
def test_restores_on_another_mesh(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    state, other = make_state(mesh(8)), mesh(*sizes)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, {})
        like = abstract(make_state(other))
        restored, _ = checkpoints.restore(1, like)
    same(restored, state)
    for x, wanted in zip(jax.tree.leaves(restored), jax.tree.leaves(like), strict=True):
        assert x.sharding.is_equivalent_to(wanted.sharding, x.ndim)


def test_state_may_be_donated_once_save_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from orbax.checkpoint._src.path import async_path

    held, written, mkdir = threading.Event(), threading.Event(), async_path.mkdir

    async def held_back(*args, **kwargs):  # no array is written before its folder exists
        held.set()
        assert written.wait(20)
        return await mkdir(*args, **kwargs)

    step = jax.jit(lambda t: jax.tree.map(lambda x: x + jnp.ones((), x.dtype), t), donate_argnums=0)
    state = step(make_state(mesh(8)))
    expected = jax.tree.map(np.array, state)
    like = abstract(state)
    monkeypatch.setattr(async_path, "mkdir", held_back)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, {})
        for _ in range(3):
            state = step(state)
        jax.block_until_ready(state)
        assert held.wait(20) and not (tmp_path / "1").exists()
        written.set()
        restored, _ = checkpoints.restore(1, like)
        same(restored, expected)
        same(step(restored), jax.tree.map(lambda x: np.asarray(x + np.ones((), x.dtype)), expected))


def test_keeps_the_newest(tmp_path: Path) -> None:
    state = make_state(mesh(1))
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in (2, 4, 6, 7):
            checkpoints.save(step, state, {"step": step})
    assert fmt.steps(tmp_path) == [6, 7]


def test_going_on_from_an_earlier_step_removes_the_course_that_was_left(tmp_path: Path) -> None:
    state = make_state(mesh(1))
    with Checkpoints(tmp_path, keep=5) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, state, {"course": "old"})
        checkpoints.save(2, state, {"course": "new"})
        checkpoints.wait()
        assert fmt.steps(tmp_path) == [1, 2]
        assert checkpoints.restore(2, abstract(state))[1] == {"course": "new"}


def test_restore_params_reads_one_subtree(tmp_path: Path) -> None:
    state = make_state(mesh(8), 2.0)
    with Checkpoints(tmp_path / "sft") as checkpoints:
        checkpoints.save(10, state, {})
    params, bfloat = state["policy"]["params"], jnp.bfloat16
    like = abstract(params, mesh(4))
    same(restore_params(tmp_path / "sft", ("policy", "params"), like), params)
    same(restore_params(tmp_path / "sft" / "10", ("policy", "params"), like), params)
    with Checkpoints(tmp_path / "sft") as checkpoints:
        same(checkpoints.restore_part(("policy", "params"), like), params)
    half = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, bfloat, sharding=x.sharding), like)
    same(restore_params(tmp_path / "sft", ("policy", "params"), half), jax.tree.map(lambda x: x.astype(bfloat), params))
    wide = {**like, "embed": jax.ShapeDtypeStruct((32, 8), jnp.float32)}
    with pytest.raises(
        UserError, match=r"policy/params/embed is float32\[16,8\] in the checkpoint and float32\[32,8\]"
    ):
        restore_params(tmp_path / "sft", ("policy", "params"), wide)
    with pytest.raises(UserError, match="holds no whole checkpoint"):
        restore_params(tmp_path / "prm", ("policy", "params"), like)


def test_another_structure_is_named_by_its_first_leaf(tmp_path: Path) -> None:
    state = make_state(mesh(1))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, {})
        like = abstract(state)
        scalar = jax.ShapeDtypeStruct((), jnp.float32)
        with pytest.raises(UserError, match=r"leaf critic \(float32\[\] here\) is not in the checkpoint"):
            checkpoints.restore(None, {**like, "critic": scalar})
        with pytest.raises(UserError, match=r"leaf key \(uint32\[2\] in the checkpoint\) does not exist here"):
            checkpoints.restore(None, {k: v for k, v in like.items() if k != "key"})
        with pytest.raises(
            UserError, match=r"leaf key is uint32\[2\] in the checkpoint and float32\[\] here.*--workdir"
        ):
            checkpoints.restore(None, {**like, "key": scalar})
        with pytest.raises(UserError, match=r"no checkpoint of step 9; it has \[1\]"):
            checkpoints.restore(9, like)


def test_state_must_be_arrays(tmp_path: Path) -> None:
    with Checkpoints(tmp_path) as checkpoints:
        for wrong in (3, np.zeros(2), jax.random.key(0)):
            with pytest.raises(TypeError, match="leaf count"):
                checkpoints.save(1, {"count": wrong}, {})

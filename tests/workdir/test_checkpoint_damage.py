"""Checkpoints that are damaged, cannot be written, or whose process is killed."""

import errno
import json
import os
import random
import resource
import subprocess
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from workdir.checkpoint_state import abstract, make_state, mesh, same

from stepjax.errors import UserError
from stepjax.workdir import checkpoint_format as fmt
from stepjax.workdir.checkpoints import Checkpoints


def truncate(folder: Path) -> None:
    largest = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)


def scramble(folder: Path) -> None:
    for path in folder.rglob("*"):  # sizes stay: only reading finds it
        if path.is_file() and path.name != fmt.MANIFEST:
            path.write_bytes(bytes(path.stat().st_size))


def unfinished(folder: Path) -> None:
    (folder / fmt.MANIFEST).unlink()


def no_json(folder: Path) -> None:
    (folder / fmt.MANIFEST).write_text('{"step": 2, "ho')


def deep_json(folder: Path) -> None:
    (folder / fmt.MANIFEST).write_text("[" * 100_000)


def no_leaves(folder: Path) -> None:
    manifest = json.loads((folder / fmt.MANIFEST).read_text())
    (folder / fmt.MANIFEST).write_text(json.dumps(manifest | {"leaves": 1e308}))


@pytest.mark.parametrize("damage", [truncate, scramble, unfinished, no_json, deep_json, no_leaves])
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, damage) -> None:
    notices: list[str] = []
    one, two = make_state(mesh(8), 1.0), make_state(mesh(8), 2.0)
    with Checkpoints(tmp_path, notify=notices.append) as checkpoints:
        checkpoints.save(1, one, {"step": 1})
        checkpoints.save(2, two, {"step": 2})
        checkpoints.wait()
        damage(tmp_path / "2")
        restored, host = checkpoints.restore(None, abstract(one))
        same(restored, one)
        assert host == {"step": 1}
        assert len(notices) == 1 and "damaged" in notices[0] and "\n" not in notices[0]
        assert checkpoints.latest() == (2 if damage is scramble else 1)
        damage(tmp_path / "1")
        with pytest.raises(UserError, match="no whole checkpoint"):
            checkpoints.restore(None, abstract(one))


def test_a_background_save_that_fails_is_told_at_the_next_call(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    state, big = make_state(mesh(1)), {"big": jnp.zeros((1000, 1000))}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, {"step": 1})
        checkpoints.wait()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        try:
            checkpoints.save(2, big, {"step": 2})
            with pytest.raises(UserError, match=r"step 2 could not be written to .*: File too large; .* run the same"):
                checkpoints.wait()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert os.listdir(tmp_path) == ["1"]
        assert checkpoints.latest() == 1
        checkpoints.save(3, state, {"step": 3})  # and the next one works again
        assert checkpoints.latest() == 3
    assert capfd.readouterr().err == ""


def test_disk_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    state = make_state(mesh(1))
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state, {})
    checkpoints.wait()
    monkeypatch.setattr(fmt, "write_manifest", full)
    checkpoints.save(2, state, {})
    with pytest.raises(UserError, match="No space left on device"):
        checkpoints.save(3, state, {})
    assert os.listdir(tmp_path) == ["1"]
    checkpoints.close()
    text = "RESOURCE_EXHAUSTED: Failed to write 29 bytes to file 17: No space left on device [os_error_code='28']"
    assert fmt.reason(ValueError(text)) == "No space left on device"


def test_the_error_that_ends_a_run_is_not_hidden_by_a_failed_save(tmp_path: Path, monkeypatch) -> None:
    notices: list[str] = []
    monkeypatch.setattr(fmt, "write_manifest", _fail)
    with pytest.raises(KeyError), Checkpoints(tmp_path, notify=notices.append) as checkpoints:
        checkpoints.save(1, make_state(mesh(1)), {})
        raise KeyError
    assert "could not be written" in notices[0]


def _fail(*args: object) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_leftovers_of_a_killed_save(tmp_path: Path) -> None:
    state = make_state(mesh(1))
    with Checkpoints(tmp_path, keep=9) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, state, {"step": step})
    (tmp_path / "3").rename(tmp_path / "3.partial")  # killed before the last rename: whole
    (tmp_path / "2").rename(tmp_path / "2.deleted")
    (tmp_path / "4.partial.orbax-checkpoint-tmp").mkdir()
    (tmp_path / "5.partial").mkdir()
    (tmp_path / "notes").mkdir()  # not ours
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest() == 3
        assert checkpoints.restore(None, abstract(state))[1] == {"step": 3}
    assert sorted(os.listdir(tmp_path)) == ["1", "3", "notes"]


def test_opening_a_stage_twice_spares_the_save_in_flight(tmp_path: Path) -> None:
    state = make_state(mesh(1))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, {})
        with Checkpoints(tmp_path) as second:
            second.latest()
        assert checkpoints.latest() == 1


SAVER = """
import os, sys
import jax, jax.numpy as jnp
import orbax.checkpoint, stepjax.workdir.checkpoints as c   # imported once; JAX starts in the forked children only

def saves(folder):
    shard = jax.sharding.NamedSharding(jax.make_mesh((8,), ("fsdp",)), jax.sharding.PartitionSpec("fsdp"))
    step = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
    state = jax.device_put({f"w{i}": jnp.zeros((8, 3000)) for i in range(6)}, shard)
    with c.Checkpoints(folder) as checkpoints:
        done = checkpoints.latest()
        if done:
            like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
            state, host = checkpoints.restore(None, like)
            done = host["step"]
        for n in range((done or 0) + 1, 10**6):
            state = step(state)
            checkpoints.save(n, state, {"step": n})
            if n == (done or 0) + 1:
                os.write(1, b"saving\\n")

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            saves(sys.argv[1])
        finally:
            os._exit(3)
    sys.stdout.write(f"{child}\\n"); sys.stdout.flush()
    status = os.waitpid(child, 0)[1]
    sys.stdout.write(f"ended {status}\\n"); sys.stdout.flush()
"""


@pytest.mark.slow
def test_sigkill_at_any_moment_leaves_whole_checkpoints(tmp_path: Path) -> None:
    """Kills a process in the middle of many quick saves, over and over; each restore must find one step everywhere."""
    rng = random.Random(0)
    parent = subprocess.Popen(
        [sys.executable, "-c", SAVER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    assert parent.stdin and parent.stdout
    like = {f"w{i}": jax.ShapeDtypeStruct((8, 3000), jnp.float32) for i in range(6)}
    last, in_the_middle, round_ = 0, 0, 0
    try:
        # How often a kill hits a save depends on the machine: as many rounds as it takes, and not for ever.
        while round_ < 10 or (in_the_middle < 4 and round_ < 60):
            parent.stdin.write("go\n")
            child = int(parent.stdout.readline())
            assert parent.stdout.readline() == "saving\n"
            # The first save of all must end; later kills may come at once.
            threading.Event().wait(rng.uniform(0.5, 0.9) if round_ == 0 else rng.uniform(0.0, 0.5))
            os.kill(child, 9)
            assert parent.stdout.readline() == "ended 9\n"
            in_the_middle += any(".partial" in name for name in os.listdir(tmp_path))
            notices: list[str] = []
            with Checkpoints(tmp_path, notify=notices.append) as checkpoints:
                step = checkpoints.latest()
                assert step is not None and step >= last
                for whole in fmt.steps(tmp_path):
                    state, host = checkpoints.restore(whole, like)
                    assert host == {"step": whole}
                    assert all((np.asarray(x) == whole).all() for x in state.values())
            assert not notices
            last = step
            round_ += 1
        assert last > 10 and in_the_middle > 3
    finally:
        parent.kill()
        parent.communicate()


def test_a_notice_shows_no_control_characters(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    state = make_state(mesh(8), 1.0)
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, state, {"step": step})
        checkpoints.wait()
        manifest = json.loads((tmp_path / "2" / fmt.MANIFEST).read_text())
        (tmp_path / "2" / fmt.MANIFEST).write_text(json.dumps(manifest | {"files": {"\x1b[2J": 3}}))
        checkpoints.restore(None, abstract(state))
    said = capsys.readouterr().err
    assert "is damaged (file \\x1b[2J is missing)" in said and "\x1b" not in said

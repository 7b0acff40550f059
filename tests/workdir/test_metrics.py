"""Metrics and samples: a resumed run leaves the bytes of an uninterrupted one; nothing is lost or said twice."""

import errno
import json
import os
import random
import resource
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from stepjax.errors import UserError
from stepjax.workdir.json_file import plain
from stepjax.workdir.json_lines import JsonLines
from stepjax.workdir.metrics import Metrics
from stepjax.workdir.sink import Sink, Watched
from stepjax.workdir.tensorboard import TensorBoardSink


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def tensorboard(folder: Path) -> dict[str, Sink]:
    return {"tensorboard": TensorBoardSink(Watched(folder, "ppo"))}


def log(metrics: Metrics, step: int) -> None:
    metrics.write(step, {"loss": np.float32(1 / step), "kl": jnp.float32(step)})
    if step % 2 == 0:
        metrics.append_samples(step, [{"problem": f"p{step}-{i}", "response": "naïve\u2028→\x85 ok"} for i in range(3)])


def test_values_are_json_in_the_given_order(tmp_path: Path) -> None:
    with Metrics(tmp_path, "ppo") as metrics:
        metrics.write(
            3,
            {
                "z": np.float64(0.5),
                "a": jnp.bfloat16(1.5),
                "nan": float("nan"),
                "inf": np.float32("inf"),
                "n": np.int64(7),
                "flag": np.bool_(True),
                "list": jnp.arange(2),
                "seconds": {"rollout": 0.25, "score": jnp.float32("-inf")},
                "stage": "other",
            },
        )
    assert (tmp_path / "metrics.jsonl").read_text() == (
        '{"step": 3, "stage": "ppo", "z": 0.5, "a": 1.5, "nan": null, "inf": null, "n": 7, "flag": true, '
        '"list": [0, 1], "seconds": {"rollout": 0.25, "score": null}}\n'
    )


def test_plain_keeps_what_is_plain() -> None:
    assert plain({"a": [1, "x", None, (True, 2.5)]}) == {"a": [1, "x", None, [True, 2.5]]}
    assert type(plain(np.float64(1.0))) is float


def test_every_line_is_there_at_once(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, "sft")
    for step in (1, 2):
        log(metrics, step)
        assert [r["step"] for r in lines(tmp_path / "metrics.jsonl")] == list(range(1, step + 1))
    metrics.close()


@pytest.mark.parametrize("seed", range(5))
def test_resumed_run_leaves_the_bytes_of_an_uninterrupted_one(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
        with Metrics(folder, "sft") as metrics:
            log(metrics, 1)
            log(metrics, 9)
    with Metrics(whole, "ppo") as metrics:
        for step in range(1, 21):
            log(metrics, step)
    saved = 0
    while saved < 20:
        with Metrics(broken, "ppo") as metrics:
            metrics.resume(saved)
            killed = rng.randint(saved + 1, 24)
            for step in range(saved + 1, min(killed, 20) + 1):
                log(metrics, step)
                if step % 5 == 0:
                    metrics.sync()
                    saved = step
        if killed <= 20:  # killed in the middle of a line
            for name in ("metrics.jsonl", "samples.jsonl"):
                with open(broken / name, "ab") as file:
                    file.write(b'{"step": 3, "stage": "p'[: rng.randint(1, 23)])
    for name in ("metrics.jsonl", "samples.jsonl"):
        assert (whole / name).read_bytes() == (broken / name).read_bytes()


def test_resume_leaves_other_stages_alone(tmp_path: Path) -> None:
    for stage in ("sft", "ppo"):
        with Metrics(tmp_path, stage) as metrics:
            for step in (0, 1, 2, 3):
                metrics.write(step, {"loss": 1.0})
    with Metrics(tmp_path, "sft") as metrics:
        metrics.resume(1)
        found = [(r["stage"], r["step"]) for r in lines(tmp_path / "metrics.jsonl")]
        assert found == [("sft", 0), ("sft", 1), *(("ppo", s) for s in range(4))]
        metrics.resume(-1)
        assert {r["stage"] for r in lines(tmp_path / "metrics.jsonl")} == {"ppo"}


def test_resume_of_an_untouched_file_does_not_rewrite_it(tmp_path: Path) -> None:
    file = JsonLines(tmp_path / "a.jsonl")
    file.resume("sft", 3)  # none yet
    file.append([{"step": 1, "stage": "sft"}])
    before = os.stat(file.path).st_ino
    file.resume("sft", 1)
    assert os.stat(file.path).st_ino == before
    file.append([{"step": 2, "stage": "sft"}])
    file.close()
    assert [r["step"] for r in lines(file.path)] == [1, 2]


def test_half_a_character_does_not_stop_a_run(tmp_path: Path) -> None:
    file = JsonLines(tmp_path / "a.jsonl")
    file.append([{"step": 1, "stage": "ppo", "response": "ok \ud83d"}])
    file.close()
    assert lines(file.path)[0]["response"] == "ok ?"


def test_disk_full_is_one_line(tmp_path: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    file = JsonLines(tmp_path / "a.jsonl")
    os.symlink("/dev/full", file.path)
    with pytest.raises(UserError, match=os.strerror(errno.ENOSPC)):
        file.append([{"step": 1}])


def test_tensorboard_events(tmp_path: Path) -> None:
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    for start in (0, 2):  # twice within a second: the second file must not overwrite the first
        with Metrics(tmp_path, "ppo", tensorboard(tmp_path)) as metrics:
            metrics.resume(start)
            for step in range(start + 1, 4):
                metrics.write(step, {"loss": 0.5, "bad": float("nan"), "text": "x", "seconds": {"rollout": 0.25}})
            metrics.sync()
    scalars, purged = [], []
    for path in sorted((tmp_path / "tensorboard" / "ppo").iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):  # a record: length (8 bytes), its checksum (4), the event, its checksum (4)
            size = int.from_bytes(data[at : at + 8], "little")
            event = Event.FromString(data[at + 12 : at + 12 + size])
            at += 16 + size
            scalars += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
            if event.session_log.status == SessionLog.START:
                purged.append(event.step)
    assert sorted(scalars) == sorted(
        (step, tag, value) for step in (1, 2, 3, 3) for tag, value in (("loss", 0.5), ("seconds/rollout", 0.25))
    )
    assert sorted(purged) == [1, 3]


def test_a_full_disk_ends_a_run_and_does_not_hang_it(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    metrics = Metrics(tmp_path, "ppo", tensorboard(tmp_path))
    metrics.write(1, {"loss": 1.0})
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(UserError, match=r"cannot be written: File too large"):
            for step in range(2, 1000):
                metrics.write(step, {"loss": 1.0, "x" * 100: 1.0})
        with pytest.raises(KeyError), metrics:  # what is still in TensorBoard's buffer must not hide the first error
            raise KeyError
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("odd", [b"[" * 100_000, b'{"step": 1, "stage": "ppo", "a": "\xff"}', "{}".encode("utf-16")])
def test_a_line_that_cannot_be_read_is_dropped(tmp_path: Path, odd: bytes) -> None:
    whole = b'{"step": 1, "stage": "ppo"}\n'
    (tmp_path / "metrics.jsonl").write_bytes(whole + odd + b"\n" + whole)
    with Metrics(tmp_path, "ppo") as metrics:
        metrics.resume(1)
        assert list(metrics.logged()) == [{"step": 1, "stage": "ppo"}] * 2
    assert (tmp_path / "metrics.jsonl").read_bytes() == whole * 2

"""Where runs are watched: each sink takes metrics and samples, and none of them can end a run."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stepjax.config import Config, LogOptions
from stepjax.errors import UserError
from stepjax.workdir.console_sink import ConsoleSink
from stepjax.workdir.metrics import Metrics
from stepjax.workdir.sample_text import as_markdown
from stepjax.workdir.sink import Row, Watched
from stepjax.workdir.sinks import SINKS, SinkEntry, chosen_sinks, open_metrics
from stepjax.workdir.tensorboard import TensorBoardSink
from stepjax.workdir.wandb_sink import MARK, WandbSink

SAMPLE = {
    "problem": "train/1",
    "prompt": "a=1;<b>?\n",
    "response": "x|y",
    "answer": "1",
    "correct": True,
    "truncated": False,
    "steps": [
        {
            "text": "x|y *z*\n",
            "rating": 1,
            "prm": [0.1, 0.2, 0.7],
            "rewards": {"process": 0.5},
            "advantage": {"process": -0.25},
            "tokens": 2,
        }
    ],
}


class Failing:
    """Fails at the first call of one of its methods."""

    def __init__(self, method: str, error: BaseException):
        self.method, self.error, self.calls = method, error, list[str]()

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name == self.method:
            raise self.error

    def resume(self, step: int) -> None:
        self._call("resume")

    def write(self, step: int, values: Row) -> None:
        self._call("write")

    def samples(self, step: int, rows: list[Row]) -> None:
        self._call("samples")

    def sync(self) -> None:
        self._call("sync")

    def close(self) -> None:
        self._call("close")


def run(metrics: Metrics) -> None:
    with metrics:
        metrics.resume(0)
        for step in (1, 2, 3):
            metrics.write(step, {"loss": 1.0 / step, "true/accuracy": 0.5, "seconds": {"rollout": 0.25}})
            metrics.append_samples(step, [SAMPLE])
            metrics.sync()


@pytest.mark.parametrize("method", ["resume", "write", "samples", "sync", "close"])
def test_a_sink_that_fails_is_left_out_with_one_line(tmp_path, capsys, method):
    sink, other = Failing(method, OSError(28, "No space left on device")), Failing("", OSError())
    run(Metrics(tmp_path, "ppo", {"broken": sink, "whole": other}))
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "log.sinks=broken fails (OSError: [Errno 28] No space left on device)" in told
    assert sink.calls.count(method) == 1 and sink.calls[-1] == method, "it is not called again"
    assert other.calls.count("write") == 3 and other.calls[-1] == "close"
    for name in ("metrics.jsonl", "samples.jsonl"):
        assert len((tmp_path / name).read_text().splitlines()) == 3


def test_an_interrupt_is_not_a_failure(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(Metrics(tmp_path, "ppo", {"x": Failing("write", KeyboardInterrupt())}))


def test_the_options_choose(tmp_path, monkeypatch):
    assert chosen_sinks(LogOptions()) == ["tensorboard"]
    assert chosen_sinks(LogOptions(sinks=" console,jsonl, tensorboard,console")) == ["console", "tensorboard"]
    assert chosen_sinks(LogOptions(sinks="")) == []
    with pytest.raises(UserError, match=r"config\.log\.sinks: no sink 'tensorbord' \(did you mean 'tensorboard'\?\)"):
        chosen_sinks(LogOptions(sinks="tensorbord"))
    monkeypatch.setitem(SINKS, "wandb", SinkEntry(WandbSink, lambda: "wandb is not installed; pip install it"))
    with pytest.raises(UserError, match=r"config\.log\.sinks=wandb: wandb is not installed"):
        open_metrics(tmp_path, "ppo", Config(log=LogOptions(sinks="wandb")))
    run(open_metrics(tmp_path, "ppo", Config(seed=3)))
    assert list((tmp_path / "tensorboard" / "ppo").iterdir())


def test_tensorboard_has_samples_as_text_and_the_options(tmp_path):
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    changed = {"seed": 3, "stages": ("sft", "ppo"), "model.tied": True}
    run(Metrics(tmp_path, "ppo", {"tensorboard": TensorBoardSink(Watched(tmp_path, "ppo", changed=changed))}))
    (path,) = (tmp_path / "tensorboard" / "ppo").iterdir()
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        size = int.from_bytes(data[at : at + 8], "little")
        event = Event.FromString(data[at + 12 : at + 12 + size])
        at += 16 + size
        found += [(event.step, value) for value in event.summary.value]
    texts = [(s, v.tensor.string_val[0].decode()) for s, v in found if v.tag == "samples/0/text_summary"]
    assert texts == [(step, as_markdown(SAMPLE)) for step in (1, 2, 3)]
    (start,) = [v for _, v in found if v.tag == "_hparams_/session_start_info"]
    told = HParamsPluginData.FromString(start.metadata.plugin_data.content).session_start_info.hparams
    assert told["seed"].number_value == 3 and told["model.tied"].bool_value
    assert told["stages"].string_value == "('sft', 'ppo')"


def test_tensorboard_needs_neither_tensorflow_nor_torch(tmp_path):
    code = (
        "import sys; from stepjax.config import Config; from stepjax.workdir.sinks import open_metrics\n"
        f"from pathlib import Path\nwith open_metrics(Path({str(tmp_path)!r}), 'ppo', Config(seed=1)) as m:\n"
        "    m.write(1, {'loss': 1.0}); m.append_samples(1, [{'prompt': 'p', 'response': 'r'}])\n"
        "assert not {'tensorflow', 'torch', 'wandb'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "tensorboard").is_dir()


def test_a_sample_as_markdown_is_a_table_that_its_texts_cannot_break():
    told = as_markdown(SAMPLE)
    assert "    a=1;<b>?" in told and "**right** (the answer: 1)" in told
    assert told.splitlines()[-1] == "| x&#124;y &#42;z&#42; | 1 | 0.1, 0.2, 0.7 | 0.5, -0.25 |"
    bare = as_markdown({"prompt": "p", "response": "<script>\nx", "correct": False, "truncated": True, "answer": "1"})
    assert "**wrong, cut off**" in bare and bare.endswith("    <script>\n    x")


def test_the_console_prints_what_is_asked_for(capsys):
    sink = ConsoleSink(Watched(Path(), "ppo", LogOptions(console="reward, kl/reference")))
    sink.resume(0)
    sink.write(2, {"loss": 1.0, "reward/process": 0.5, "kl/reference": 0.25, "kl/other": 1.0, "rewarded": 1.0})
    sink.samples(2, [SAMPLE, {"correct": False}])
    assert capsys.readouterr().out == (
        "ppo 2: reward/process 0.500 · kl/reference 0.250\nppo 2: 1 of 2 samples right (samples.jsonl)\n"
    )


BLOCK, HEADER = 32768, 7


def records(data: bytes) -> Iterator[bytes]:
    """The records of an offline file, a LevelDB log: a record in one chunk (1), or in a first, middle and last one."""
    at, whole = HEADER, b""
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:  # no chunk begins there
            at += BLOCK - at % BLOCK
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole += data[at + HEADER : at + HEADER + size]
        at += HEADER + size
        if kind in (1, 4):
            yield whole
            whole = b""


def history(folder: Path) -> list[dict]:
    """The rows that two offline runs keep; their service writes the end of a file after `finish`."""
    from wandb.proto.wandb_internal_pb2 import Record

    for _ in range(100):
        files = [path.read_bytes() for path in sorted(folder.glob("wandb/offline-run-*/*.wandb"))]
        found = [Record.FromString(record) for data in files for record in records(data)]
        if sum(record.WhichOneof("record_type") == "exit" for record in found) == 2:
            break
        time.sleep(0.1)
    items = [record.history.item for record in found if record.history.item]
    return [{i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in row} for row in items]


def test_wandb_continues_its_run(tmp_path, monkeypatch, capsys):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    names = []
    for done, last in ((0, 3), (2, 4)):  # killed after step 3, continued from the checkpoint of step 2
        watched = Watched(tmp_path, "ppo", LogOptions(project="p"), {"seed": 1})
        with Metrics(tmp_path, "ppo", {"wandb": WandbSink(watched)}) as metrics:
            metrics.resume(done)
            for step in range(done + 1, last + 1):
                metrics.write(step, {"loss": 1.0 / step, "seconds": {"rollout": 0.25}})
                metrics.append_samples(step, [SAMPLE])
        names.append(json.loads((tmp_path / MARK).read_text())["id"])
    assert capsys.readouterr().err == ""
    assert names[0] == names[1]
    folders = [path.name for path in (tmp_path / "wandb").glob("offline-run-*")]
    assert folders and all(names[0] in name for name in folders), "every start is the same run"
    rows = [row for row in history(tmp_path) if "ppo/loss" in row]
    assert [(row["ppo/step"], row["ppo/loss"]) for row in rows] == [(s, 1.0 / s) for s in (1, 2, 3, 4)]
    assert rows[0]["ppo/seconds/rollout"] == 0.25
    tables = [row for row in history(tmp_path) if "ppo/samples" in row or "ppo/samples/_type" in row]
    assert len(tables) >= 4
    assert os.environ["WANDB_MODE"] == "offline"


def test_wandb_begins_a_stage_again_that_is_trained_again(tmp_path):
    (tmp_path / MARK).write_text(json.dumps({"id": "abc", "logged": {"ppo": 9}}))
    sink = WandbSink(Watched(tmp_path, "ppo"))
    for done, again in ((0, 0), (5, 9)):
        sink.resume(done)
        assert sink._again == again

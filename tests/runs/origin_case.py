"""Work directories with checkpoints of one small array, opened as every command opens them: nothing is trained."""

import dataclasses
import json
from collections.abc import Collection
from pathlib import Path

import jax.numpy as jnp

from stepjax.config import Config, JsonlOptions, MeshOptions, TaskOptions, TokenizerOptions
from stepjax.runs.opening import open_run
from stepjax.runs.origin_parts import TRAINING
from stepjax.runs.origins import StageOrigin
from stepjax.workdir import origin
from stepjax.workdir.checkpoints import Checkpoints


def problems(path: Path, last: int = 9) -> Path:
    """Sixteen problems; `last`: one digit of the last answer."""
    rows = [{"problem": f"{n} and {n}?", "answer": f"{2 * n}", "solution": f"#### {2 * n}"} for n in range(15)]
    rows.append({"problem": "and last?", "answer": str(last), "solution": f"#### {last}"})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def of_file(path: Path, **changes) -> Config:
    """A config whose problems, and the tokenizer trained on them, come from a JSONL file."""
    task = TaskOptions(name="jsonl", jsonl=JsonlOptions(train=str(path), held_out=0.3))
    config = Config(task=task, tokenizer=TokenizerOptions(vocab=300), mesh=MeshOptions(data=1))
    return dataclasses.replace(config, **changes)


def saved(config: Config, workdir: Path, *stages: str, step: int = 1, value: float = 1.0) -> Path:
    """The work directory after these stages have saved a checkpoint."""
    for stage in stages:
        with open_run(config, workdir) as run:
            made_of = StageOrigin(run, stage)
            made_of.begin()
            with Checkpoints(run.checkpoint_folder(stage), origin=made_of.write) as checkpoints:
                checkpoints.save(step, {"params": jnp.full(4, value)}, {"step": step})
    return workdir


def opened(config: Config, workdir: Path, *, kinds: Collection[str] = TRAINING, accept: bool = False) -> None:
    with open_run(config, workdir, kinds=kinds, accept_changed=accept):
        pass


def record(workdir: Path, stage: str) -> origin.Record:
    """What the newest checkpoint of a stage was made of."""
    newest = origin.newest(workdir / "checkpoints" / stage)
    assert newest is not None
    found = origin.read(newest[1])
    assert found is not None
    return found

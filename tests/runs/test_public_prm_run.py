"""PPO paid by a public process reward model with a tokenizer of its own, and evaluations of it."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from rewards.prm_references import save_checkpoint, tokenizer_of
from runs.tiny_run import OPTIONS, TinyRun, assert_same_run, lines, stepjax, write_config

from stepjax.models.prm_checkpoint import load_prm
from stepjax.options import parse
from stepjax.parallel import make_mesh
from stepjax.rewards.conventions import CONVENTIONS
from stepjax.rewards.conventions_layout import Layout
from stepjax.rewards.public_prm import PublicPRM

STREAMS = """{
        "process": stream(signal="prm", horizon="step", good=2.0, bad=-1.0),
        "outcome": stream(signal="outcome", horizon="response", lam=1.0, weight=0.5, bad=0.0),
    }"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint("math_shepherd", tmp_path_factory.mktemp("prm") / "model")


def prepare(tiny: TinyRun, tmp_path: Path, checkpoint: Path, **changes: object) -> tuple[Path, Path]:
    """A config that names the model, and a copy of the run's SFT that was started with it."""
    options = {
        **OPTIONS,
        "prm.path": str(checkpoint),
        "prm.convention": "math_shepherd",
        "prm.row_tokens": 128,
        "ppo.iterations": 3,
        "ppo.checkpoint_every": 1,
        "ppo.samples_every": 1,
        **changes,
    }
    config = write_config(tmp_path / "changed.py", options, streams=STREAMS)
    workdir = tiny.copy(tmp_path / "whole", without=("prm", "ppo"))
    (workdir / "config.json").write_text(json.dumps(dataclasses.asdict(parse([f"--config={config}"])[0])))
    return config, workdir


@pytest.mark.slow
def test_ppo_is_paid_by_a_model_with_another_tokenizer(tiny: TinyRun, tmp_path: Path, checkpoint: Path) -> None:
    config, whole = prepare(tiny, tmp_path, checkpoint)
    assert stepjax("prm", config, whole) == 0 and not (whole / "checkpoints" / "prm").exists()  # nothing to train
    assert stepjax("ppo", config, whole) == 0
    parts = tmp_path / "parts"
    shutil.copytree(whole, parts)
    shutil.rmtree(parts / "checkpoints" / "ppo" / "3")
    assert stepjax("ppo", config, parts) == 0
    assert_same_run(parts, whole, ["ppo"])
    assert [line["prm/left_out"] for line in lines(whole, "ppo")] == [0.0, 0.0, 0.0]

    # What was logged is what the model says of the texts, worth 2 × P(good) − P(bad), where a step may be rated.
    mesh = make_mesh(1, 1, 1, devices=jax.devices()[:1])
    layout = Layout(CONVENTIONS["math_shepherd"], tokenizer_of("math_shepherd"))
    definition, params = load_prm(checkpoint, mesh, head="tokens", classes=layout.classes)
    model = PublicPRM(definition, params, layout, mesh, rows=1, width=128)
    samples = lines(whole, "ppo", "samples.jsonl")
    seen = 0
    for sample in samples:
        texts = [step["text"] for step in sample["steps"]]
        (scores,) = model.score([sample["prompt"].strip()], [texts])
        for k, (step, score) in enumerate(zip(sample["steps"], scores, strict=True)):
            if step["prm"] is not None:
                np.testing.assert_allclose(step["prm"], score, atol=2e-4)
                cut = sample["truncated"] and k == len(texts) - 1
                worth = 0.0 if cut else 2.0 * score[2] - score[0]
                assert step["rewards"]["process"] == pytest.approx(worth, abs=1e-3)
                seen += 1
    assert seen > 4

    assert stepjax("eval", config, whole, "--config.eval.kind=prm") == 0
    assert json.loads((whole / "eval.json").read_text())["measures"]["prm"]


@pytest.mark.slow
def test_responses_that_the_model_cannot_read_are_counted(tiny: TinyRun, tmp_path: Path, checkpoint: Path) -> None:
    config, workdir = prepare(tiny, tmp_path, checkpoint, **{"prm.row_tokens": 8, "ppo.iterations": 1})
    assert stepjax("ppo", config, workdir) == 0
    (line,) = lines(workdir, "ppo")
    assert line["prm/left_out"] == 1.0 and line["reward/process"] == 0.0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("prm.convention=", "config.prm.convention: required together with config.prm.path"),
        ("prm.convention=qwen", "its tokenizer has no token '<extra_0>'"),
        ("prm.separator=x", "config.prm.separator: only the conventions skywork and trl"),
        ("prm.data=x", "config.prm.data"),
        ("ppo.streams.process.critic_trunk=prm", "critic_trunk: a public process reward model"),
        ("prm.path=/nowhere", "/nowhere"),
    ],
)
def test_misfits_take_one_line(
    tiny: TinyRun, tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture, change: str, said: str
) -> None:
    config, workdir = prepare(tiny, tmp_path, checkpoint)
    (workdir / "config.json").write_text(
        json.dumps(dataclasses.asdict(parse([f"--config={config}", f"--config.{change}"])[0]))
    )
    assert stepjax("ppo", config, workdir, f"--config.{change}") == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error

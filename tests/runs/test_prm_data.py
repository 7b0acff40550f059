"""A process reward model learns from a file of labels: every objective, no problem on both sides, resumed alike."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from stepjax.cli import main
from stepjax.config import Config, PRMOptions
from stepjax.data.dataset_writer import DatasetWriter
from stepjax.data.schema import LabelledSolution, line
from stepjax.errors import UserError
from stepjax.runs.check import check_prm

SIZE = {
    "task.name": "labelled",
    "tokenizer.vocab": 300,
    "mesh.data": 1,
    "model.layers": 1,
    "model.width": 32,
    "model.heads": 2,
    "model.kv_heads": 2,
    "model.head_dim": 16,
    "model.mlp": 64,
    "prm.from_sft": False,
    "prm.rows": 4,
    "prm.row_tokens": 64,
    "prm.updates": 40,
    "prm.optimizer.lr": 1e-2,
    "prm.optimizer.warmup": 5,
    "prm.log_every": 10,
    "prm.checkpoint_every": 20,
    "prm.held_out": 0.25,
}


def records(kind: str) -> list[LabelledSolution]:
    """Steps are letters; a step with a `z` is bad, and after it the value is low."""
    generator = np.random.default_rng(0)
    found = []
    for i in range(240):
        steps = ["".join(generator.choice(list("abz" if generator.random() < 0.4 else "ab"), 3)) for _ in range(3)]
        bad = np.array(["z" in step for step in steps])
        first = int(bad.argmax()) if bad.any() else -1
        values = np.where(np.cumsum(bad) > 0, 0.1, 0.9)
        labels = (
            {"ratings": tuple(np.where(bad, -1, 1).tolist())} if kind == "step" else {"values": tuple(values.tolist())}
        )
        found.append(
            LabelledSolution(f"{i // 2}", tuple(steps), kind=kind, first_error=first, correct=not bad.any(), **labels)
        )
    return found


def train(workdir: Path, data: Path, **options) -> dict:
    chosen = SIZE | {"prm.data": str(data)} | {name.replace("__", "."): value for name, value in options.items()}
    argv = [f"--config.{name}={value}" for name, value in chosen.items()]
    assert main(["prm", *argv, f"--workdir={workdir}"]) == 0
    return json.loads((workdir / "prm.json").read_text())


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("labelled")
    with DatasetWriter(folder / "step", name="records", shards=2) as writer:
        for record in records("step"):
            writer.write(record, "train")
    (folder / "value.jsonl").write_text("".join(map(line, records("value"))))
    return folder


@pytest.mark.slow
def test_classes_from_a_tfds_folder_head_first_and_resumed(data, tmp_path, capsys):
    options = {"prm__classes": 2, "prm__neutral": "good", "prm__head_first": 5}
    found = train(tmp_path / "whole", data / "step", **options)
    assert found["model"]["auc"] > 0.95 > 0.6 > found["chance"]["auc"]
    assert found["model"]["macro_f1"] > 0.8 > found["chance"]["macro_f1"]
    assert found["model"]["first_error_f1"] > 0.8 > found["majority"]["first_error_f1"]
    assert found["labels"]["neutral"] == 0 and found["steps"] == 3 * found["solutions"]
    calibration = found["calibration"]
    assert calibration["tested_on"] + calibration["fitted_on"] == found["steps"]
    assert 0.05 <= calibration["temperature"] <= 20 and set(calibration["after"]) == {"ece", "nll"}
    assert "chance" in capsys.readouterr().out
    # Stopped half way and continued: the same parameters, from the same data.
    (tmp_path / "halves").mkdir()
    import shutil

    shutil.copytree(tmp_path / "whole", tmp_path / "halves", dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "halves" / "checkpoints" / "prm" / "40")
    again = train(tmp_path / "halves", data / "step", **options)
    assert again["model"] == found["model"]
    whole, halves = (
        [json.loads(row) for row in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("whole", "halves")
    )
    assert [row["loss"] for row in whole] == [row["loss"] for row in halves]


@pytest.mark.slow
def test_values_with_a_token_level_verifier_and_its_language_loss(data, tmp_path):
    found = train(
        tmp_path,
        data / "value.jsonl",
        prm__target="value",
        prm__classes=2,
        prm__objective="mse",
        prm__every_token=True,
        prm__reader_layers=1,
        prm__lm_loss=0.1,
        prm__updates=120,
    )
    assert found["model"]["mean_difference"] < 0.6 * found["majority"]["mean_difference"]
    assert found["model"]["auc"] > 0.9 and "macro_f1" not in found["model"]
    rows = [json.loads(row) for row in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["lm_loss"] > 0 and rows[-1]["valid/temperature"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"prm__target": "prefix"},
        {"prm__target": "outcome", "prm__classes": 2},
        {"prm__target": "step", "prm__classes": 2, "prm__neutral": "skip", "prm__objective": "bce"},
    ],
)
def test_other_targets(data, tmp_path, options):
    found = train(tmp_path, data / "step", prm__updates=120, **options)
    assert found["model"]["auc"] > 0.8 > 0.65 > found["chance"]["auc"]


def test_labels_that_the_target_cannot_learn(data, tmp_path, capsys):
    argv = [f"--config.{k}={v}" for k, v in SIZE.items()] + [f"--config.prm.data={data / 'value.jsonl'}"]
    assert main(["prm", *argv, f"--workdir={tmp_path}"]) == 2
    assert "labels of values, which do not fit target step" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, message",
    [
        ({"objective": "bce"}, r"config\.prm\.objective: it needs labelled data"),
        ({"target": "outcome"}, "target=outcome: it needs labelled data"),
        ({"data": "x", "objective": "mse"}, "it trains only P.good.; set config.prm.classes=2"),
        ({"data": "x", "classes": 2}, "neutral=own: with classes=2"),
        ({"data": "x", "head_first": 400}, "head_first=400: the trunk would never be trained"),
        ({"classes": 2}, "the task's neutral steps need the third class"),
    ],
)
def test_options_that_contradict_each_other(options, message):
    check_prm(PRMOptions())
    with pytest.raises(UserError, match=message):
        check_prm(PRMOptions(**options))
    assert Config().prm.classes == 3 and jax.default_backend()

"""Runs that start from an open checkpoint, and the policy that they export."""

import dataclasses
import json

import numpy as np
import pytest
from models.family_cases import CASES, write_checkpoint
from runs.tiny_run import OPTIONS, stepjax, write_config

from stepjax.config import Config, ModelOptions
from stepjax.models import load_pretrained
from stepjax.models.checkpoint_folder import open_checkpoint
from stepjax.runs.start import open_start
from stepjax.tasks.register_chain import build_tokenizer

ROWS = 61
"""Rows of the checkpoint's embedding: more than the tokenizer's entries, and divided by nothing."""

VERIFIED = '{"process": stream(signal="verifier", horizon="step")}'


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A random model with the task's tokenizer."""
    folder = write_checkpoint(tmp_path_factory.mktemp("start"), CASES["qwen2-linear"])
    build_tokenizer().save_pretrained(str(folder))
    (folder / "generation_config.json").write_text('{"temperature": 0.6}')
    return folder


def config(folder, checkpoint, **changes):
    options = {n: v for n, v in OPTIONS.items() if not n.startswith("model.")}
    options |= {"model.path": str(checkpoint), "ppo.iterations": 2, "ppo.minibatches": 1, "ppo.epochs": 1}
    return write_config(folder / "start.py", {**options, **changes}, streams=VERIFIED)


@pytest.mark.slow
def test_ppo_starts_from_a_checkpoint_and_is_exported(checkpoint, tmp_path, compiled_once, capsys):
    recipe = config(tmp_path, checkpoint, **{"mesh.data": 1, "mesh.fsdp": 2, "mesh.tensor": 2})
    work, out = tmp_path / "run", tmp_path / "out"
    assert stepjax("ppo", recipe, work) == 0
    assert f"stage ppo starts from {checkpoint} as it is" in capsys.readouterr().out
    rounds = [json.loads(x) for x in (work / "metrics.jsonl").read_text().splitlines()]
    # The reference is the checkpoint itself, and sampler and learner say the same.
    assert abs(rounds[0]["kl/reference"]) < 1e-5 and rounds[1]["kl/reference"] > 1e-5
    assert all(x["mismatch/max"] < 1e-3 for x in rounds)
    arguments = [f"--workdir={work}", f"--config.export.out={out}"]
    from stepjax.cli import main

    assert main(["export", *arguments]) == 0
    before, after = load_pretrained(checkpoint), load_pretrained(out)
    assert after.source == {**before.source, "architectures": ["Qwen2ForCausalLM"], "torch_dtype": "float32"}
    changed = [
        np.abs(np.asarray(after.params["trunk"][k]) - before.params["trunk"][k]).max() for k in ("embedding", "norm")
    ]
    assert all(0 < x < 0.1 for x in changed)
    assert {n: e.shape for n, e in open_checkpoint(out).tensors.items()} == {
        n: e.shape for n, e in open_checkpoint(checkpoint).tensors.items()
    }
    assert json.loads((out / "generation_config.json").read_text()) == {"temperature": 0.6, "eos_token_id": [2]}
    assert main(["export", *arguments]) == 2
    assert "not empty" in capsys.readouterr().err
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(out)
    ids = tokenizer("a=7;b=a+5;?b", return_tensors="pt").input_ids
    with torch.no_grad():
        theirs = AutoModelForCausalLM.from_pretrained(out)(ids).logits.numpy()
    np.testing.assert_allclose(np.asarray(after(ids.numpy())), theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.slow
def test_sft_starts_from_a_checkpoint(checkpoint, tmp_path, compiled_once):
    options = {"sft.updates": 2, "sft.optimizer.lr": 1e-6, "sft.log_every": 1}
    recipe, work = config(tmp_path, checkpoint, **options), tmp_path / "run"
    assert stepjax("sft", recipe, work) == 0
    out = tmp_path / "out"
    from stepjax.cli import main

    assert main(["export", f"--workdir={work}", "--config.export.stage=sft", f"--config.export.out={out}"]) == 0
    before, after = (load_pretrained(x).params["trunk"]["norm"] for x in (checkpoint, out))
    assert 0 < np.abs(np.asarray(before) - after).max() < 1e-5


@pytest.mark.parametrize(
    "options, message",
    [
        ({"model.path": "nowhere/"}, "nowhere: no such folder"),
        ({"model.attention": "splash"}, "config.model.attention=splash: it runs on TPU, not on cpu"),
        ({"model.attention": "cudnn"}, "config.model.attention=cudnn: it runs on NVIDIA GPUs, not on cpu"),
    ],
)
def test_what_does_not_fit_is_one_line(options, message, checkpoint, tmp_path, capsys):
    recipe = config(tmp_path, checkpoint, **options)
    assert stepjax("ppo", recipe, tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_checkpoint_decides_the_shape_and_says_so(checkpoint, capsys):
    options = dataclasses.replace(Config(), model=ModelOptions(path=str(checkpoint), layers=7, width=32))
    assert open_start(options).decoder == open_checkpoint(checkpoint).decoder
    said = capsys.readouterr()
    assert "config.model.layers, width give way to it" in said.out + said.err


def test_a_tokenizer_of_another_model_is_refused(tmp_path, capsys):
    small = write_checkpoint(tmp_path / "small", {**CASES["qwen2-linear"], "vocab_size": 20})
    build_tokenizer().save_pretrained(str(small))
    assert stepjax("ppo", config(tmp_path, small), tmp_path / "run") == 2
    assert "the embedding only 20 rows" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_of_a_checkpoint_whose_tables_differ_trains_and_exports_both(tmp_path, compiled_once, capsys):
    source = write_checkpoint(tmp_path / "in", {**CASES["qwen2-linear"], "tie_word_embeddings": False})
    described = json.loads((source / "config.json").read_text()) | {"tie_word_embeddings": True}
    (source / "config.json").write_text(json.dumps(described))
    build_tokenizer().save_pretrained(str(source))
    recipe, work, out = config(tmp_path, source, **{"ppo.iterations": 1}), tmp_path / "run", tmp_path / "out"
    assert stepjax("ppo", recipe, work) == 0
    assert "they are not tied" in capsys.readouterr().err
    from stepjax.cli import main

    assert main(["export", f"--workdir={work}", f"--config.export.out={out}"]) == 0
    before, after = load_pretrained(source), load_pretrained(out)
    assert after.source["tie_word_embeddings"] is False
    changed = np.abs(np.asarray(after.params["unembedding"]) - before.params["unembedding"]).max()
    assert 0 < changed < 0.1

"""A policy that was trained from scratch, as a Hugging Face folder."""

from pathlib import Path

import numpy as np
import pytest
from runs.tiny_run import OPTIONS, arrays, stepjax, write_config

from stepjax.cli import main
from stepjax.models import load_pretrained
from stepjax.runs.export import whole_folder


@pytest.mark.slow
def test_a_policy_from_scratch_is_exported_in_the_plainest_family(tmp_path, compiled_once):
    # Norms and biases together: the family with both has a bias on the output too.
    options = {**OPTIONS, "model.qkv_bias": True, "model.head_dim": 8, "sft.updates": 1}
    work, out = tmp_path / "run", tmp_path / "out"
    assert stepjax("sft", write_config(tmp_path / "scratch.py", options), work) == 0
    assert main(["export", f"--workdir={work}", "--config.export.stage=sft", f"--config.export.out={out}"]) == 0
    model, trained = load_pretrained(out), arrays(work, "sft")
    assert model.source["model_type"] == "qwen3" and model.source["attention_bias"]
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(out)
    assert model.config.vocab == len(tokenizer) == model.source["vocab_size"]
    np.testing.assert_array_equal(
        model.params["unembedding"], trained["params/unembedding"][:, : len(tokenizer)], strict=True
    )
    np.testing.assert_array_equal(model.params["trunk"]["layers"]["query"], trained["params/trunk/layers/query"])
    assert not np.asarray(model.params["trunk"]["layers"]["output_bias"]).any()
    ids = np.asarray(tokenizer("a=7;b=a+5;?b", return_tensors="np").input_ids)
    ours = np.asarray(model(ids))
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    with torch.no_grad():
        theirs = AutoModelForCausalLM.from_pretrained(out)(torch.from_numpy(ids)).logits.numpy()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())


def test_what_cannot_be_exported_is_one_line(tmp_path, capsys):
    assert main(["export", "--config.export.out=x"]) == 2
    assert "name the work directory" in capsys.readouterr().err
    assert main(["export", f"--workdir={tmp_path}"]) == 2
    assert "name the folder to write" in capsys.readouterr().err
    assert main(["export", f"--workdir={tmp_path}", f"--config.export.out={tmp_path / 'x'}"]) == 2
    assert "config.json cannot be read" in capsys.readouterr().err
    for content, said in (
        ("[" * 100_000, "config.json cannot be read"),
        ('{"sed": 1}', "config.json; without sed, which this version does not have"),
    ):
        (tmp_path / "config.json").write_text(content)
        assert main(["export", f"--workdir={tmp_path}", f"--config.export.out={tmp_path / 'x'}"]) == 2
        assert said in capsys.readouterr().err


def test_the_current_folder_may_be_written(tmp_path, monkeypatch):
    (here := tmp_path / "here").mkdir()
    monkeypatch.chdir(here)
    with whole_folder(Path(".")) as folder:
        folder.mkdir()
        (folder / "config.json").write_text("{}")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["config.json", "here"]

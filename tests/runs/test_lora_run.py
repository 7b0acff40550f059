"""A run whose process reward model and PPO train adapters alone, on the weights of its SFT."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from models.family_cases import CASES, write_checkpoint
from runs.tiny_run import OPTIONS, TinyRun, arrays, assert_same_run, lines, stepjax, write_config

from stepjax.cli import main
from stepjax.models import load_pretrained
from stepjax.options import parse
from stepjax.tasks.register_chain import build_tokenizer

CHANGES = {
    "lora.rank": 2,
    "lora.modules": ("query", "value", "output", "down"),
    "lora.alpha": 8.0,
    "ppo.iterations": 2,
    "ppo.checkpoint_every": 1,
    "ppo.policy.lr": 1e-2,
}


def changed(tiny: TinyRun, tmp_path: Path, options: dict, *, streams: str | None = None) -> tuple[Path, Path]:
    """A config and a copy of the run's SFT that was started with it."""
    more = {} if streams is None else {"streams": streams}
    config = write_config(tmp_path / "changed.py", {**OPTIONS, **options}, **more)
    workdir = tiny.copy(tmp_path / "whole", without=("prm", "ppo"))
    (workdir / "config.json").write_text(json.dumps(dataclasses.asdict(parse([f"--config={config}"])[0])))
    return config, workdir


def size(tree: dict[str, np.ndarray], prefix: str) -> int:
    return sum(x.nbytes for name, x in tree.items() if name.startswith(prefix))


@pytest.mark.slow
def test_adapters_and_heads_alone_are_trained_saved_and_resumed(tiny: TinyRun, tmp_path: Path) -> None:
    config, whole = changed(tiny, tmp_path, CHANGES)
    assert stepjax("prm", config, whole) == 0
    assert stepjax("ppo", config, whole) == 0
    parts = tmp_path / "parts"
    shutil.copytree(whole, parts)
    shutil.rmtree(parts / "checkpoints" / "ppo" / "2")
    assert stepjax("ppo", config, parts) == 0
    assert_same_run(parts, whole, ["ppo"])

    prm, first, last = arrays(whole, "prm"), arrays(whole, "ppo", 1), arrays(whole, "ppo", 2)
    policy = [name for name in last if name.startswith("policy/params/")]
    assert len(policy) == 2 * len(CHANGES["lora.modules"]) and all("_lora_" in name for name in policy)
    assert any((first[name] != last[name]).any() for name in policy)
    heads = {name for name in last if name.startswith("critic/params/") and "_lora_" not in name}
    assert heads == {"critic/params/head", "critic/params/bias"}
    trained = {name for name in prm if name.startswith("params/") and "_lora_" not in name}
    assert trained == {"params/head", "params/bias"}
    assert not any("embedding" in name for name in (*last, *prm))
    # The moments, and so the checkpoint, are those of the adapters.
    full = arrays(tiny.workdir, "ppo")
    assert size(last, "policy/optimizer") < size(full, "policy/optimizer") / 10

    rounds = lines(whole, "ppo")
    # Fresh adapters change nothing: the first round is sampled from the reference.
    assert rounds[0]["kl/reference"] == pytest.approx(0.0, abs=1e-5) and rounds[-1]["kl/reference"] > 1e-5


@pytest.mark.slow
def test_a_stage_without_adapters_is_as_before(tiny: TinyRun, tmp_path: Path) -> None:
    """lora.stages=ppo: the process reward model trains all its parameters, as without adapters, to the same numbers."""
    config, workdir = changed(tiny, tmp_path, {**CHANGES, "lora.stages": ("ppo",), "ppo.iterations": 1})
    assert stepjax("prm", config, workdir) == 0
    ours, theirs = arrays(workdir, "prm"), arrays(tiny.workdir, "prm")
    assert ours.keys() == theirs.keys()
    assert all((ours[name] == theirs[name]).all() for name in ours)
    assert stepjax("ppo", config, workdir) == 0
    assert stepjax("eval", config, workdir) == 0
    assert set(json.loads((workdir / "eval.json").read_text())["rows"]) == {"sft", "ppo"}


@pytest.mark.slow
def test_a_checkpoint_is_adapted_and_the_adapter_goes_to_peft_and_back(
    tmp_path: Path, compiled_once: Path, capsys: pytest.CaptureFixture
) -> None:
    """PPO on an open checkpoint without SFT: only adapters are written; the export is PEFT's, or merged weights."""
    checkpoint = write_checkpoint(tmp_path / "base", CASES["qwen2-linear"])
    build_tokenizer().save_pretrained(str(checkpoint))
    options = {n: v for n, v in OPTIONS.items() if not n.startswith("model.")} | CHANGES
    options |= {"model.path": str(checkpoint), "ppo.iterations": 2, "ppo.minibatches": 1, "ppo.epochs": 1}
    verified = '{"process": stream(signal="verifier", horizon="step")}'
    config = write_config(tmp_path / "start.py", options, streams=verified)
    work = tmp_path / "run"
    assert stepjax("ppo", config, work) == 0
    assert all("_lora_" in name for name in arrays(work, "ppo") if name.startswith("policy/params/"))
    export = ["export", f"--workdir={work}"]
    assert main([*export, f"--config.export.out={tmp_path / 'merged'}"]) == 0
    assert main([*export, f"--config.export.out={tmp_path / 'adapter'}", "--config.export.adapter=True"]) == 0
    merged, base = load_pretrained(tmp_path / "merged"), load_pretrained(checkpoint)
    ids = np.arange(3, 12)[None]
    ours = np.asarray(merged(ids))
    assert np.abs(ours - np.asarray(base(ids))).max() > 1e-3 * np.abs(ours).max()

    # A run that starts from the written adapter begins where this one ended.
    options |= {"lora.path": str(tmp_path / "adapter"), "ppo.iterations": 1}
    again = write_config(tmp_path / "again.py", options, streams=verified)
    assert stepjax("ppo", again, tmp_path / "second", "--config.ppo.policy.lr=0.0") == 0
    ended, begun = arrays(work, "ppo"), arrays(tmp_path / "second", "ppo")
    for name in ended:
        if name.startswith("policy/params/"):
            np.testing.assert_array_equal(ended[name], begun[name])

    other = write_config(tmp_path / "other.py", {**options, "lora.rank": 3}, streams=verified)
    assert stepjax("ppo", other, tmp_path / "third") == 2
    assert "has rank 2" in capsys.readouterr().err

    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    wrapped = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(checkpoint), tmp_path / "adapter")
    with torch.no_grad():
        theirs = wrapped.eval()(torch.tensor(ids)).logits.numpy()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("lora.stages=('prm',)", "config.lora.stages: must be ppo, or prm and ppo"),
        ("lora.modules=('query','nothing')", "config.lora.modules: must name some of query"),
        ("prm.from_sft=False", "config.prm.from_sft: must be True where the process reward model has adapters"),
    ],
)
def test_contradictions_take_one_line(tmp_path: Path, capsys: pytest.CaptureFixture, change: str, said: str) -> None:
    config = write_config(tmp_path / "changed.py", {**OPTIONS, **CHANGES})
    assert stepjax("ppo", config, tmp_path / "run", f"--config.{change}") == 2
    assert said in capsys.readouterr().err

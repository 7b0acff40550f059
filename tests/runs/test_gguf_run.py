"""Runs that start from a GGUF file: what the policy reads, training, export, and mistakes."""

import json

import numpy as np
import pytest
from data.test_gguf_tokenizer import metadata_of, trained
from models.gguf_files import CASES, write_gguf
from runs.origin_case import of_file, opened, problems, saved
from runs.tiny_run import OPTIONS, stepjax, write_config

from stepjax.cli import main
from stepjax.config import ModelOptions
from stepjax.errors import UserError
from stepjax.models import load_pretrained

VERIFIED = '{"process": stream(signal="verifier", horizon="step")}'


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A random model, packed in Q8_0, with a tokenizer and a chat template."""
    metadata = metadata_of(trained("smollm"), "smollm")
    case = {**CASES["llama-linear"], "vocab_size": len(metadata["tokenizer.ggml.tokens"])}
    return write_gguf(tmp_path_factory.mktemp("start") / "model.gguf", case, "Q8_0", metadata=metadata)


def config(folder, file, **changes):
    options = {n: v for n, v in OPTIONS.items() if not n.startswith("model.")}
    return write_config(folder / "start.py", {**options, "model.path": str(file), **changes}, streams=VERIFIED)


def test_show_prompt_reads_the_files_template(file, tmp_path, capsys):
    assert main(["show", "prompt", f"--config={config(tmp_path, file)}"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("prompts: chat template; a response ends at <|im_end|> (2) or <|endoftext|> (0)\n")
    assert shown.count("│<|im_start|>│") == 6


def test_a_file_that_is_cut_off_is_one_line(file, tmp_path, capsys):
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(file.read_bytes()[:-100])
    assert stepjax("ppo", config(tmp_path, cut), tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert f"{cut}: truncated, " in error and error.count("\n") == 1
    assert not (tmp_path / "run" / "config.json").exists()


def test_every_part_of_a_split_file_is_what_a_run_is_made_of(tmp_path):
    metadata = metadata_of(trained("smollm"), "smollm")
    case = {**CASES["llama-linear"], "vocab_size": len(metadata["tokenizer.ggml.tokens"])}
    write_gguf(tmp_path / "model.gguf", case, metadata=metadata, parts=10)
    first, second, *_ = sorted(tmp_path.glob("*.gguf"))
    config = of_file(problems(tmp_path / "train.jsonl"), model=ModelOptions(path=str(first)))
    work = saved(config, tmp_path / "run", "sft")
    opened(config, work)
    data = second.read_bytes()
    second.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(UserError, match=f"changed since stage sft was saved: {second.name}"):
        opened(config, work)


@pytest.mark.slow
def test_sft_and_export(file, tmp_path, compiled_once):
    """An export is a folder of its family, with the file's template and ends."""
    changes = {"sft.updates": 2, "sft.optimizer.lr": 1e-6, "sft.log_every": 1, "sft.row_tokens": 256}
    work, out = tmp_path / "run", tmp_path / "out"
    assert stepjax("sft", config(tmp_path, file, **changes), work) == 0
    assert main(["export", f"--workdir={work}", "--config.export.stage=sft", f"--config.export.out={out}"]) == 0
    before, after = load_pretrained(file), load_pretrained(out)
    assert after.config == before.config
    assert 0 < np.abs(np.asarray(before.params["trunk"]["norm"]) - after.params["trunk"]["norm"]).max() < 1e-5
    assert json.loads((out / "generation_config.json").read_text())["eos_token_id"] == [2, 0]
    assert "<|im_start|>" in (out / "chat_template.jinja").read_text()

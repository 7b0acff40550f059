"""Runs that start from a checkpoint whose responses end in several ways, and whose texts begin with a token."""

import json

import numpy as np
import pytest
from models.family_cases import CASES, tensor_shapes
from runs.tiny_run import OPTIONS, stepjax, write_config
from tokenizers.processors import TemplateProcessing

from stepjax.cli import main
from stepjax.data.tokenizers import load_tokenizer
from stepjax.models.checkpoint_folder import open_checkpoint
from stepjax.models.safetensors_file import write_file
from stepjax.runs.first_prompt import SHOWN, shortened
from stepjax.tasks.register_chain import build_tokenizer

CASE = CASES["qwen2-window"]
PAD, BEGIN, END = 0, 1, 2
VERIFIED = '{"process": stream(signal="verifier", horizon="step")}'
CHAT = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}</s>{% endfor %}"


def says_only(folder, token, case=CASE):
    """A checkpoint of which each next token is `token`: the hidden state is the same everywhere."""
    shapes = tensor_shapes(case)

    def tensor(name, shape):
        if name == "lm_head.weight":
            return np.eye(shape[0], dtype=np.float32)[:, token : token + 1] * np.ones(shape, np.float32)
        return np.full(shape, float("embed" in name or name.endswith("norm.weight")), np.float32)

    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(case))
    written = {name: (shape, np.dtype(np.float32)) for name, shape in shapes.items()}
    write_file(folder / "model.safetensors", written, (tensor(*x) for x in shapes.items()))
    return folder


def with_tokenizer(folder, *, chat="", begins=False, eos="<pad>"):
    tokenizer = build_tokenizer()
    tokenizer.eos_token = eos
    if begins:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", BEGIN)]
        )
    tokenizer.chat_template = chat or None
    tokenizer.save_pretrained(str(folder))
    return folder


def generation(folder, **values):
    (folder / "generation_config.json").write_text(json.dumps(values))
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, compiled_once):
    """A config file of one round for a checkpoint."""

    def write(checkpoint, **changes):
        options = {n: v for n, v in OPTIONS.items() if not n.startswith("model.")}
        options |= {"model.path": str(checkpoint), "ppo.iterations": 1, "ppo.minibatches": 1, "ppo.epochs": 1}
        options |= {"stages": ("ppo",)}
        return write_config(tmp_path_factory.mktemp("recipe") / "ends.py", options | changes, streams=VERIFIED)

    return write


def first_round(work):
    return json.loads((work / "metrics.jsonl").read_text().splitlines()[0])


def export(work, out, *, stage="ppo"):
    assert main(["export", f"--workdir={work}", f"--config.export.stage={stage}", f"--config.export.out={out}"]) == 0
    return [json.loads((out / f"{name}.json").read_text()) for name in ("config", "generation_config")]


@pytest.mark.slow
def test_each_end_of_the_generation_config_ends_responses(recipe, tmp_path, capsys):
    source = generation(with_tokenizer(says_only(tmp_path / "model", END)), eos_token_id=[PAD, END], top_p=0.9)
    config, work = recipe(source), tmp_path / "run"
    assert stepjax("ppo", config, work) == 0
    line = first_round(work)
    assert line["length/truncated"] == 0 and line["length/tokens"] == 1, "the model never says the tokenizer's end"
    said = capsys.readouterr().out
    assert "a response ends at <pad> (0) or </s> (2)" in said and "the policy first reads " in said
    assert stepjax("eval", config, work) == 0
    evaluated = json.loads((work / "eval.json").read_text())
    assert {p["truncated"] for p in policies(evaluated)} == {0}
    written, generated = export(work, tmp_path / "out")
    assert written["eos_token_id"] == generated["eos_token_id"] == [PAD, END] and generated["top_p"] == 0.9
    assert open_checkpoint(tmp_path / "out").ends == (PAD, END)


def policies(evaluated):
    """The figures of each policy in an eval.json."""
    if isinstance(evaluated, dict):
        if "truncated" in evaluated:
            yield evaluated
        for value in evaluated.values():
            yield from policies(value)


@pytest.mark.slow
def test_the_end_of_the_chat_template_ends_responses_and_texts_begin_once(recipe, tmp_path, capsys):
    source = with_tokenizer(says_only(tmp_path / "model", END, {**CASE, "eos_token_id": PAD}), chat=CHAT, begins=True)
    work = tmp_path / "run"
    assert stepjax("ppo", recipe(source), work) == 0
    assert first_round(work)["length/truncated"] == 0
    said = capsys.readouterr().out
    assert "a response ends at <pad> (0) or </s> (2)" in said
    assert said.count("<s>") == 1 and "tokens, '<s>" in said
    _, generated = export(work, tmp_path / "out")
    assert generated["eos_token_id"] == [PAD, END]
    tokenizer = load_tokenizer(tmp_path / "out")
    assert tokenizer.chat_template == CHAT and tokenizer.encode("a=7")[0] == BEGIN


def test_an_end_that_is_no_id_of_the_model_is_one_line(recipe, tmp_path, capsys):
    source = with_tokenizer(says_only(tmp_path / "model", END))
    for wrong in (61, [0, -1], ["</s>"], True):
        generation(source, eos_token_id=wrong)
        assert stepjax("ppo", recipe(source), tmp_path / "run") == 2
        error = capsys.readouterr().err
        assert "generation_config.json: eos_token_id=" in error and "below vocab_size=61" in error
        assert error.count("\n") == 1


@pytest.mark.slow
def test_with_another_tokenizer_only_its_special_tokens_end_responses(recipe, tmp_path, capsys):
    source = generation(says_only(tmp_path / "model", END), eos_token_id=[END, 9])  # 9 is a digit there
    other = with_tokenizer(tmp_path / "tokenizer")
    assert stepjax("ppo", recipe(source, **{"tokenizer.path": str(other)}), tmp_path / "run") == 0
    assert "a response ends at <pad> (0) or </s> (2)\n" in capsys.readouterr().out


@pytest.mark.slow
def test_transformers_stops_where_the_run_did(recipe, tmp_path):
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    source = generation(with_tokenizer(says_only(tmp_path / "model", END)), eos_token_id=[PAD, END])
    work, out = tmp_path / "run", tmp_path / "out"
    assert stepjax("ppo", recipe(source), work) == 0
    export(work, out)
    found = AutoModelForCausalLM.from_pretrained(out).generate(torch.tensor([[5, 6]]), max_new_tokens=5)
    assert found.tolist() == [[5, 6, END]]


def test_a_long_prompt_is_shown_shortened():
    assert shortened("a" * SHOWN) == "a" * SHOWN
    found = shortened("a" * SHOWN + "b" * SHOWN)
    assert found.startswith("aaa") and " … " in found and found.endswith("bbb") and len(found) == SHOWN + 3

"""`stepjax show prompt`: the tokens that a policy reads and learns, as a person sees them."""

from pathlib import Path

import pytest
from tasks.chat_templates import tokenizer_of

from stepjax.cli import main
from stepjax.data.framing import Framing
from stepjax.runs.show_prompt import bars


def test_three_problems_with_borders_and_loss(capsys: pytest.CaptureFixture) -> None:
    assert main(["show", "prompt"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("prompts: plain; a response ends at </s> (2)\n")
    assert shown.count("(no loss):") == shown.count("learns to write") == 3
    first = shown.split("\n\n")[1].splitlines()
    assert first[0] == "problem train/0" and first[2].endswith("│↵│") and first[-1].endswith("│</s>│")
    assert main(["show", "prompt", "--config.sft.prompt_loss=True"]) == 0
    assert capsys.readouterr().out.count("(loss on these tokens):") == 6


def test_no_work_directory_is_made(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["show", "prompt", f"--workdir={tmp_path / 'new'}"]) == 0
    assert "problem train/0" in capsys.readouterr().out and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "`stepjax show` takes: prompt, credit"),
        (["promt"], "what is 'promt'? `stepjax show` takes: prompt, credit"),
        (["prompt", "--config.style=chat"], "config.prompt.style=chat: the tokenizer has no chat template"),
        (["prompt", "--config.prompt.stile=chat"], "did you mean '--config.prompt.style'"),
    ],
)
def test_mistakes_take_one_line(capsys: pytest.CaptureFixture, arguments: list[str], said: str) -> None:
    assert main(["show", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error


def test_parts_of_characters_and_special_tokens_are_visible() -> None:
    framing = Framing.of(tokenizer_of("qwen2"))
    ids = framing.tokenizer.encode("<|im_start|>a\nπ€", add_special_tokens=False)
    lines = bars(framing, ids)
    assert lines[0] == "    │<|im_start|>│a│↵│" and "�" not in "".join(lines)
    assert sum(line.count("│") - 1 for line in lines) == len(ids)

"""What a model reads of a problem and learns to write, against transformers' own rendering and assistant masks."""

import dataclasses
import json

import pytest
from tasks.chat_templates import STYLES, tokenizer_of

from stepjax.config import PromptOptions
from stepjax.data.framing import Framing
from stepjax.data.tokenizers import encode, train_bpe
from stepjax.errors import UserError
from stepjax.tasks.base import Problem
from stepjax.tasks.encoding import demonstration
from stepjax.tasks.prompts import Prompt, filled


class Sums:
    """Ten problems, solved in two steps; a row has a column of its own."""

    def __init__(self, template: str | None = None):
        if template is not None:
            self.template = template

    def problems(self, split):
        found = []
        for i in range(10):
            text = f"So x = {i}, and y = {i + 1}. What is x + y?"
            solution = f"I add {i} and {i + 1}.\n\nThe answer is \\boxed{{{2 * i + 1}}}."
            written = getattr(self, "template", "{problem}\n").replace("{problem}", text)
            found.append(
                Problem(f"{split}/{i}", written, str(2 * i + 1), solution, question=text, columns={"level": i})
            )
        return found


PROBLEMS = Sums().problems("train")


def prompt_of(of: str, task=None, **options) -> Prompt:
    return Prompt(PromptOptions(**options), Framing.of(tokenizer_of(of)), task or Sums())


def rendered(style: str, turns, **options):
    return tokenizer_of(style).apply_chat_template(turns, return_dict=True, **options)


@pytest.mark.parametrize("style", STYLES)
def test_a_chat_prompt_is_what_transformers_renders(style):
    prompt = prompt_of(style)
    assert prompt.chat and prompt.framing.tokenizer.convert_ids_to_tokens(prompt.end) == STYLES[style][3]
    for problem in PROBLEMS:
        turns = [{"role": "user", "content": problem.text}]
        found = prompt(problem)
        assert found == rendered(style, turns, add_generation_prompt=True)["input_ids"]
        begin = STYLES[style][1]
        if begin is not None and style != "smollm2":
            assert prompt.framing.tokenizer.convert_ids_to_tokens(found).count(begin) == 1


@pytest.mark.parametrize("style", STYLES)
def test_a_demonstration_teaches_what_the_assistant_writes_and_nothing_else(style):
    prompt = prompt_of(style)
    for problem in PROBLEMS:
        turns = [{"role": "user", "content": problem.text}, {"role": "assistant", "content": problem.solution}]
        whole = rendered(style, turns, return_assistant_tokens_mask=True)
        learned = whole["assistant_masks"]
        last = max(i for i, of_assistant in enumerate(learned) if of_assistant)  # what follows its end is no one's
        example = demonstration(prompt, problem)
        assert example.tokens.tolist() == whole["input_ids"][: last + 1]
        expected = [token if of else -1 for token, of in zip(whole["input_ids"], learned, strict=True)][1 : last + 1]
        assert example.targets.tolist() == [*expected, -1]


@pytest.mark.parametrize("style", sorted(set(STYLES) - {"gemma2"}))
def test_system_text_shots_and_prefill(style):
    prompt = prompt_of(style, system="Reason step by step.", shots=2, prefill="Let me see:")
    for problem in (PROBLEMS[0], PROBLEMS[7]):  # the first is itself among the first two
        shown = [p for p in PROBLEMS if p is not problem][:2]
        turns = [{"role": "system", "content": "Reason step by step."}]
        for shot in shown:
            turns += [{"role": "user", "content": shot.text}, {"role": "assistant", "content": shot.solution}]
        turns.append({"role": "user", "content": problem.text})
        text = tokenizer_of(style).apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        assert prompt(problem) == encode(tokenizer_of(style), text + "Let me see:")
    begun = dataclasses.replace(PROBLEMS[7], solution="Let me see: it is 15.")
    read, written = prompt.demonstration(begun)
    assert read == prompt(begun) and "Let me see" not in tokenizer_of(style).decode(written)


def test_a_template_without_system_texts_says_so():
    with pytest.raises(UserError, match=r"System role not supported.*leave config\.prompt\.system empty"):
        prompt_of("gemma2", system="Be brief.")(PROBLEMS[0])


def test_thinking_is_switched_where_there_is_a_switch():
    said = {
        thinking: tokenizer_of("qwen3").decode(prompt_of("qwen3", thinking=thinking)(PROBLEMS[0]))
        for thinking in ("", "on", "off")
    }
    assert said[""] == said["on"] and "<think>" not in said["on"]
    assert said["off"].endswith("<think>\n\n</think>\n\n")
    _, written = prompt_of("qwen3", thinking="off").demonstration(PROBLEMS[0])
    assert tokenizer_of("qwen3").decode(written) == PROBLEMS[0].solution + "<|im_end|>"
    with pytest.raises(UserError, match=r"config\.prompt\.thinking=off: .* has no such switch"):
        prompt_of("llama", thinking="off")(PROBLEMS[0])


def test_plain_prompts_are_the_tasks_own():
    tokenizer = train_bpe([p.prompt for p in PROBLEMS], 300)
    for task, expected in ((Sums(), "{}\n"), (Sums("Q: {problem}\nA:"), "Q: {}\nA:")):
        prompt = Prompt(PromptOptions(), Framing.of(tokenizer), task)
        problem = task.problems("train")[3]
        assert not prompt.chat and prompt.text(problem) == expected.format(problem.text)
        assert prompt(problem) == encode(tokenizer, problem.prompt) == prompt.of_text(problem.text)
        assert prompt.response("a") == [*encode(tokenizer, "a"), tokenizer.eos_token_id]
    options = PromptOptions(system="Sums.", shots=1, user="{problem} ({level})\n", prefill="It is")
    found = Prompt(options, Framing.of(tokenizer), Sums()).text(PROBLEMS[3])
    first, asked = PROBLEMS[0], PROBLEMS[3]
    assert found == f"Sums.\n\n{first.text} (0)\n{first.solution}\n\n{asked.text} (3)\nIt is"


def test_style_decides_and_a_missing_template_is_named():
    assert not prompt_of("qwen2", style="plain").chat
    assert prompt_of("qwen2", style="plain")(PROBLEMS[0]) == encode(tokenizer_of("qwen2"), PROBLEMS[0].prompt)
    assert prompt_of("qwen2", style="plain").end == tokenizer_of("qwen2").eos_token_id
    prompt = Prompt(PromptOptions(style="chat"), Framing.of(train_bpe(["a b"], 300)), Sums())
    with pytest.raises(UserError, match=r"config\.prompt\.style=chat: the tokenizer has no chat template"):
        prompt(PROBLEMS[0])


def test_a_tasks_own_words_are_kept_in_a_chat():
    problem = Sums("Q: {problem}\nA:").problems("train")[0]
    text = prompt_of("qwen2", Sums("Q: {problem}\nA:")).text(problem)
    assert f"<|im_start|>user\nQ: {problem.text}\nA:<|im_end|>" in text


def test_columns_are_filled_in_and_braces_of_latex_are_not():
    template = "Level {level}: {problem} Put the answer into \\boxed{answer} or \\frac{level}{2}."
    found = filled(template, PROBLEMS[2])
    assert found.startswith(f"Level 2: {PROBLEMS[2].text} Put the answer into \\boxed{{answer}}")
    assert "\\frac{level}{2}" in found
    with pytest.raises(UserError, match=r"train/2 has no column 'levl' \(did you mean 'level'\?\)"):
        filled("{levl} {problem}", PROBLEMS[2])
    with pytest.raises(UserError, match=r"no column 'answer'.*answers and solutions are not shown"):
        filled("{problem} It is {answer}.", PROBLEMS[2])


def test_shots_from_a_file(tmp_path):
    file = tmp_path / "shots.jsonl"
    file.write_text("".join(json.dumps({"problem": f"{i}?", "solution": f"{i}!"}) + "\n" for i in range(3)))
    text = prompt_of("qwen2", shots=3, shots_file=str(file)).text(PROBLEMS[0])
    assert [text.index(f"{i}?") < text.index(f"{i}!") for i in range(3)] == [True] * 3
    with pytest.raises(UserError, match=r"config\.prompt\.shots=4: .*shots\.jsonl has 3 solved problems"):
        prompt_of("qwen2", shots=4, shots_file=str(file))(PROBLEMS[0])
    with pytest.raises(UserError, match=r"config\.prompt\.shots=11: split train has 10 solved problems"):
        prompt_of("qwen2", shots=11)(PROBLEMS[0])

"""Prompts that ask for tags: what they show, where their steps are, and what the tags are worth."""

import dataclasses
import time

import pytest
from tasks.chat_templates import tokenizer_of
from tasks.test_prompts import PROBLEMS, Sums, prompt_of, rendered

from stepjax.answers.marks import final_answer
from stepjax.config import Config, PromptOptions
from stepjax.errors import UserError
from stepjax.runs.response_figures import measure
from stepjax.runs.responses import Response
from stepjax.runs.tag_figures import is_whole, own_scores, tag_figures
from stepjax.steps import StepSplitter
from stepjax.tasks.registry import make_task
from stepjax.tasks.tagged import STRUCTURES, check_structure, step_separator

REFLECT = STRUCTURES["reflect"]
WHOLE = REFLECT.written(["I add 3 and 4.", "3 + 4 = 7"], "7")


class Solved(Sums):
    separator = "\n\n"


def response(text: str, right: bool) -> Response:
    return Response(PROBLEMS[0], (), (1,), text, [text], finished=True, correct=right, step_ratings=None)


def test_the_prompt_asks_for_tags_behind_the_system_text_and_shows_them_in_its_examples():
    prompt = prompt_of("smollm2", Solved(), structure="reflect", system="Be brief.", shots=1)
    shot, problem = PROBLEMS[0], PROBLEMS[3]
    solution = REFLECT.written(["I add 0 and 1.", "The answer is \\boxed{1}."], "1")
    turns = [
        {"role": "system", "content": f"Be brief.\n\n{REFLECT.system}"},
        {"role": "user", "content": shot.text},
        {"role": "assistant", "content": solution},
        {"role": "user", "content": problem.text},
    ]
    assert prompt(problem) == rendered("smollm2", turns, add_generation_prompt=True)["input_ids"]
    plain = prompt_of("smollm2", Solved(), structure="reflect", shots=1, style="plain").text(problem)
    assert plain.startswith(REFLECT.system) and solution in plain
    _, learned = prompt.demonstration(shot)  # and demonstrations teach what was asked for
    assert solution in prompt.framing.tokenizer.decode(learned)


def test_an_example_is_whole_and_its_answer_and_steps_are_found():
    found = final_answer(WHOLE)
    assert is_whole(WHOLE) and found is not None and found.text == "7" and own_scores(WHOLE) == [1.0, 1.0]
    tokenizer = tokenizer_of("smollm2")
    splitter = StepSplitter(tokenizer, step_separator(Config(prompt=PromptOptions(structure="reflect")), "\n"))
    steps = splitter.texts(tokenizer(WHOLE, add_special_tokens=False)["input_ids"])
    assert [step.split("</step>")[0] for step in steps[1:]] == ["I add 3 and 4.", "3 + 4 = 7"]


@pytest.mark.parametrize(
    "change",
    [("<count>19</count>\n", ""), ("1.0</reward>", "very good</reward>"), ("1.0</reward>", "7</reward>"),
     ("</answer>", ""), ("</step>", ""), ("<step>", "")],
)  # fmt: skip
def test_a_response_with_a_tag_missing_is_not_whole(change):
    assert change[0] in WHOLE and not is_whole(WHOLE.replace(*change))


def test_figures_of_own_scores():
    def scored(*scores: str) -> str:
        return "".join(f"<step>x</step><count>1</count><reflection>y</reflection><reward>{s}</reward>" for s in scores)

    some = [
        response(scored("0.9", "1") + "<answer>1</answer>", right=True),
        response(scored("0.7", ".95") + "<answer>2</answer>", right=False),
        response(scored("0.2"), right=False),
        response("1 + 1 = 2", right=True),
        response(scored("12", "") + "<answer>3</answer>", right=False),
    ]
    found = tag_figures(some)
    assert found == {"tags_whole": 0.4, "claimed": 0.4, "claimed_right": 0.5, "self_auc": 1.0}
    assert found.items() <= measure(some, tags=True).items() and "claimed" not in measure(some)
    assert tag_figures(some[3:4]) == {"tags_whole": 0.0, "claimed": 0.0}


@pytest.mark.parametrize(
    "text",
    [
        "<step>" * 50_000 + "<reward>" + "9" * 100_000,
        "<step>" + "</step><count>1</count><reflection>" * 50_000,
        "<step>" + "</step><count>1</count><reflection></reflection>" * 50_000,
        "<step>" + "<answer>" * 50_000,
        "<reward>" + " " * 200_000,
        "<count>" + " " * 200_000,
    ],
)
def test_a_hostile_response_costs_time_in_proportion_to_its_length(text):
    began = time.process_time()
    assert not is_whole(text) and own_scores(text) == []
    assert time.process_time() - began < 5  # a quadratic search takes minutes


def test_tasks_of_another_syntax_and_stretches_that_are_not_learned_are_refused():
    config = Config(prompt=PromptOptions(structure="reflect"))
    with pytest.raises(UserError, match=r"prompt\.structure=reflect: task register_chain"):
        check_structure(config, make_task(config))
    masked = dataclasses.replace(PROBLEMS[0], unlearned=((0, 3),))
    with pytest.raises(UserError, match=r"prompt\.structure=reflect: problem train/0"):
        prompt_of("smollm2", Solved(), structure="reflect").unlearned(masked)

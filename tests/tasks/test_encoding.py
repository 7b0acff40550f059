"""Problems to tokens: which positions learn what."""

import dataclasses

import numpy as np
import pytest

from stepjax.config import PromptOptions
from stepjax.data.framing import Framing
from stepjax.data.tokenizers import encode
from stepjax.errors import UserError
from stepjax.tasks.base import Problem
from stepjax.tasks.encoding import demonstration, fitting_prompts, labelled_steps
from stepjax.tasks.prompts import Prompt


class Letters:
    """A tokenizer of one id a character, a = 10; it begins texts with 1."""

    eos_token_id = 2

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [1] * add_special_tokens + [ord(c) - ord("a") + 10 for c in text]


TOKENIZER = Letters()
PROMPT = Prompt(PromptOptions(), Framing.of(TOKENIZER), object())
PROBLEM = Problem("train/0", prompt="abc", answer="e", solution="de")


def test_encode_adds_nothing():
    assert encode(TOKENIZER, "ab") == [10, 11] and encode(TOKENIZER, "") == []


def test_a_demonstration_teaches_the_solution_and_its_end():
    example = demonstration(PROMPT, PROBLEM)
    #                            begin  a   b   c   d   e  end
    assert example.tokens.tolist() == [1, 10, 11, 12, 13, 14, 2]
    assert example.targets.tolist() == [-1, -1, -1, 13, 14, 2, -1]
    assert example.tokens.dtype == example.targets.dtype == np.int32


def test_a_demonstration_can_teach_the_prompt_too():
    example = demonstration(PROMPT, PROBLEM, prompt_loss=True)
    assert example.targets.tolist() == [10, 11, 12, 13, 14, 2, -1]


def test_the_smallest_demonstrations():
    empty = demonstration(PROMPT, dataclasses.replace(PROBLEM, solution=""))
    assert (empty.tokens.tolist(), empty.targets.tolist()) == ([1, 10, 11, 12, 2], [-1, -1, -1, 2, -1])
    short = demonstration(PROMPT, dataclasses.replace(PROBLEM, prompt="a"))
    assert (short.tokens.tolist(), short.targets.tolist()) == ([1, 10, 13, 14, 2], [-1, 13, 14, 2, -1])


def test_labels_stand_at_the_ends_of_steps():
    ends = np.array([False, True, False, True])
    example = labelled_steps([5, 6], [10, 11, 12, 2], ends, [0, 2])
    assert example.tokens.tolist() == [5, 6, 10, 11, 12, 2]
    assert example.targets.tolist() == [-2, -2, -1, 0, -1, 2]
    assert example.tokens.dtype == example.targets.dtype == np.int32
    none = labelled_steps([5], [10, 11], np.zeros(2, bool), [])
    assert none.targets.tolist() == [-2, -1, -1]


@pytest.mark.parametrize("labels", [[], [1], [1, 1, 1]])
def test_every_step_needs_one_label(labels):
    with pytest.raises(ValueError, match=f"2 steps, but {len(labels)} labels"):
        labelled_steps([5], [10, 11], np.array([True, True]), labels)


def problems(*prompts: str) -> list[Problem]:
    return [Problem(f"test/{i}", prompt, "0") for i, prompt in enumerate(prompts)]


def test_wide_prompts_are_left_out():
    found = fitting_prompts(PROMPT, problems("abc", "abcd", "a", "abcde"), width=4, where="width")
    assert [p.id for p in found.problems] == ["test/0", "test/2"]
    assert found.tokens == [[1, 10, 11, 12], [1, 10]]
    assert found.left_out == 2


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        (["abc", "abcd"], r"config\.ppo\.prompt_tokens=2: every prompt is longer than that; raise it"),
        (["a", ""], "problem test/1: its prompt is empty"),
        ([], "there are no problems to sample responses to"),
    ],
)
def test_prompts_that_cannot_be_sampled_from_are_user_errors(prompts, said):
    with pytest.raises(UserError, match=said):
        fitting_prompts(PROMPT, problems(*prompts), width=2, where="config.ppo.prompt_tokens")

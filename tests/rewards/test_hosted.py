"""Judges of texts: patterns, functions of the user's, and what is said when they are wrong."""

import re

import numpy as np
import pytest

from stepjax.config import StreamOptions
from stepjax.errors import UserError
from stepjax.rewards.hosted import find_function, read_rewards
from stepjax.rewards.reward_streams import make_text_reward

PROMPTS = ["p", "q", "r"]
RESPONSES = ["a=1\nb=22\n", "", "no\n"]
STEPS = [["a=1\n", "b=22\n"], [], ["no\n"]]


def words(prompts, responses, steps):
    return [[float(len(step)) for step in of_one] for of_one in steps]


def whole(prompts, responses, steps):
    return [len(prompt) + len(response) for prompt, response in zip(prompts, responses, strict=True)]


def broken(prompts, responses, steps):
    return [[1.0] * len(of_one) for of_one in steps][:-1] + [[float("nan")]]


def raising(prompts, responses, steps):
    raise KeyError("no such word")


def text_reward(name="mine", **options):
    return make_text_reward(name, StreamOptions(**options))


def listed(rewards):
    return [r.tolist() for r in rewards]


def test_only_texts_are_rated_on_the_host():
    assert all(
        text_reward(signal=signal) is None for signal in ("prm", "orm", "verifier", "outcome", "kl", "length", "limit")
    )


def test_a_pattern_must_match_all_of_the_stripped_text():
    each = text_reward(signal="format", pattern=r"[a-z]=\d", good=0.5, bad=-2.0)
    assert listed(each(PROMPTS, RESPONSES, STEPS)) == [[0.5, -2.0], [], [-2.0]]
    both = text_reward(signal="format", pattern=r"(?s)a.*22|", per="response")
    assert listed(both(PROMPTS, RESPONSES, STEPS)) == [1.0, 1.0, -1.0]


def test_a_pattern_that_never_ends_is_ended():
    each = text_reward(signal="format", pattern="(a|a)*b", timeout=0.2)
    with pytest.raises(
        UserError, match=r"^config\.ppo\.streams\.mine\.pattern: '\(a\|a\)\*b' took longer than 0\.2 s for 1"
    ):
        each(["p"], ["a" * 60], [["a" * 60]])
    assert listed(each(PROMPTS, RESPONSES, STEPS)) == [[-1.0, -1.0], [], [-1.0]]


def test_a_function_gives_a_number_a_step_or_a_response():
    found = text_reward(signal="function", function=f"{__name__}:words")(PROMPTS, RESPONSES, STEPS)
    assert listed(found) == [[4.0, 5.0], [], [3.0]] and all(r.dtype == np.float32 for r in found)
    found = text_reward(signal="function", function=f"{__name__}:whole")(PROMPTS, RESPONSES, STEPS)
    assert listed(found) == [10.0, 1.0, 4.0]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, "^here returned NoneType, not a list"),
        (3.0, "^here returned float, not a list"),
        ({}, "^here returned dict, not a list"),
        ([1.0, 2.0], "rewards of 2 responses for 3"),
        ([[1.0], [], [1.0]], "1 rewards for the 2 steps of response 0"),
        ([[1.0, 2.0], [], []], "0 rewards for the 1 steps of response 2"),
        ([[1.0, 2.0], 0.0, [1.0]], "one number for response 1, a list before"),
        ([1.0, [], 1.0], "a list for response 1, one number before"),
        ([[1.0, "x"], [], [1.0]], r"\[1\.0, 'x'\] for response 0: neither a number"),
        ([[[1.0], [2.0]], [], [1.0]], "for response 0: neither a number"),
        ([1.0, "0.5", 1.0], "'0.5' for response 1: neither a number"),
        ([1.0, None, 1.0], "None for response 1: neither a number"),
        ([1.0, 2.0, float("nan")], "nan for response 2$"),
        ([[1.0, float("inf")], [], [1.0]], "inf for response 0, step 1"),
    ],
)
def test_what_is_no_reward_is_said_with_its_row(found, said):
    with pytest.raises(UserError, match=said if said.startswith("^") else f"^here returned .*{said}"):
        read_rewards(found, [2, 0, 1], "here")


def test_arrays_and_numpy_numbers_are_rewards():
    assert listed(read_rewards(np.arange(3), [2, 0, 1], "here")) == [0.0, 1.0, 2.0]
    assert listed(read_rewards([np.array([1, 2]), [], (np.float16(0.5),)], [2, 0, 1], "here")) == [[1, 2], [], [0.5]]
    assert read_rewards([], [], "here") == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pattern": "a(b"}, "pattern: 'a(b' is not a regular expression: missing )"),
        ({"function": "words"}, "function: must be written package.module:function, not 'words'"),
        ({"function": "no_such_module:f"}, "function: no_such_module cannot be imported (ModuleNotFoundError"),
        ({"function": f"{__name__}:wrods"}, f"function: {__name__} has no function 'wrods' (did you mean 'words'?)"),
        ({"function": f"{__name__}:PROMPTS"}, f"function: {__name__} has no function 'PROMPTS'"),
    ],
)
def test_text_rewards_that_cannot_be_made_are_user_errors(options, said):
    signal = "format" if "pattern" in options else "function"
    with pytest.raises(UserError, match=rf"^config\.ppo\.streams\.mine\.{re.escape(said)}"):
        text_reward(signal=signal, **options)


def test_a_function_that_fails_is_named():
    for name, said in (
        ("raising", "raised KeyError: 'no such word'"),
        ("broken", "returned nan for response 2, step 0"),
    ):
        with pytest.raises(UserError, match=rf"^config\.ppo\.streams\.mine\.function: {__name__}:{name} {said}"):
            text_reward(signal="function", function=f"{__name__}:{name}")(PROMPTS, RESPONSES, STEPS)
    with pytest.raises(UserError, match="returned one reward per response, but the stream's shaping"):
        text_reward(signal="function", function=f"{__name__}:whole", shaping=("delta",))(PROMPTS, RESPONSES, STEPS)


def test_a_function_is_found_in_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "my_own_rewards.py").write_text(
        "def count(prompts, responses, steps):\n    return [0.0] * len(steps)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [p for p in __import__("sys").path if p])
    assert find_function("my_own_rewards:count", "here")([], [], [[], []]) == [0.0, 0.0]


def test_results_that_only_look_like_lists_are_named():
    def generator():
        yield 1.0
        raise ValueError

    for found, kind in ((np.array(None), "ndarray"), (generator(), "generator")):
        with pytest.raises(UserError, match=f"^here returned {kind}, not a list with the rewards"):
            read_rewards(found, [1], "here")
    with pytest.raises(UserError, match=r"^here returned 1000.*for response 0: neither a number nor"):
        read_rewards([10**400], [1], "here")
    with pytest.raises(UserError, match=r"^here returned inf for response 0"):
        read_rewards([1e300], [1], "here")

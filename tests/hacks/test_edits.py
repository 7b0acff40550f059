"""Each edit by hand, on RegisterChain, on a text with calculator notes, and where there is no place for it."""

import pytest

from stepjax.hacks.edits import EDITS, THANKS, take_apart
from stepjax.tasks.base import Problem
from stepjax.tasks.register_chain import RegisterChain, RegisterChainConfig

CHAIN = Problem("test/0", "a=9;b=a-2;d=4;c=b+a;?c\n", "6")
CHAIN_TEXT = "b=9-2=7\nc=7+9=6\n?6"
CHAIN_EDITS = {
    "repeat": ("b=9-2=7\nc=7+9=6\nc=7+9=6\n?6", [1, 1, 0, 1]),
    "pad 1": ("b=9-2=7\na=9\nc=7+9=6\n?6", [1, 0, 1, 1]),
    "pad 3": ("b=9-2=7\na=9\nd=4\na=9\nc=7+9=6\n?6", [1, 0, 0, 0, 1, 1]),
    "merge": ("b=9-2=7c=7+9=6\n?6", [-1, -1]),
    "split": ("b=9-2\n=7\nc=7+9\n=6\n?6", [-1, -1, -1, -1, -1]),
    "drop": ("b=9-2=7c=7+9=6?6", [-1]),
    "early": ("b=9-2=7\nc=7+9=6", [1, 1]),
    "fix": ("b=9-2=8\n!b=9-2=7\nc=7+9=6\n?6", [-1, 1, 1, 1]),
    "undo": ("b=9-2=7\n!b=9-2=7\nc=7+9=6\n?6", [1, 0, 1, 1]),
    "thanks": (f"{CHAIN_TEXT}\n{THANKS}", [1, 1, 1, -1]),
}


class Text:
    """A task of which only texts are known."""

    name, separator = "text", "\n"


WORDS = Problem("test/0", "Ann has 48 clips. She sold <<half>> of them. How many are left? Think hard.\n", "72")
WORDS_TEXT = "In May she sold 48/2 = <<48/2=24>>24 clips.\nTogether 48+24 = <<48+24=72>>72.\n#### 72"
WORDS_EDITS = {
    "repeat": (
        "In May she sold 48/2 = <<48/2=24>>24 clips.\nTogether 48+24 = <<48+24=72>>72.\n"
        "Together 48+24 = <<48+24=72>>72.\n#### 72"
    ),
    "pad 1": (
        "In May she sold 48/2 = <<48/2=24>>24 clips.\nAnn has 48 clips.\nTogether 48+24 = <<48+24=72>>72.\n#### 72"
    ),
    "pad 3": (
        "In May she sold 48/2 = <<48/2=24>>24 clips.\nAnn has 48 clips.\nAnn has 48 clips.\nAnn has 48 clips.\n"
        "Together 48+24 = <<48+24=72>>72.\n#### 72"
    ),
    "merge": "In May she sold 48/2 = <<48/2=24>>24 clips. Together 48+24 = <<48+24=72>>72.\n#### 72",
    "split": (
        "In May she sold 48/2 =\n<<48/2=24>>24 clips.\nTogether 48+24 =\n<<48+24=72>>72.\n#### 72"
    ),
    "drop": "In May she sold 48/2 = <<48/2=24>>24 clips. Together 48+24 = <<48+24=72>>72. #### 72",
    "early": "In May she sold 48/2 = <<48/2=24>>24 clips.\nTogether 48+24 = <<48+24=72>>72.",
    "fix": (
        "In May she sold 48/2 = <<48/2=25>>25 clips.\n"
        "That was wrong. In May she sold 48/2 = <<48/2=24>>24 clips.\nTogether 48+24 = <<48+24=72>>72.\n#### 72"
    ),
    "undo": (
        "In May she sold 48/2 = <<48/2=24>>24 clips.\nThat was wrong. In May she sold 48/2 = <<48/2=24>>24 clips.\n"
        "Together 48+24 = <<48+24=72>>72.\n#### 72"
    ),
    "detour": None,
    "thanks": f"{WORDS_TEXT}\n{THANKS}",
}  # fmt: skip


@pytest.mark.parametrize("name", CHAIN_EDITS)
def test_edits_of_a_register_program_and_what_they_are_worth(name):
    task = RegisterChain(RegisterChainConfig())
    text, ratings = CHAIN_EDITS[name]
    edited = EDITS[name](take_apart(task, CHAIN, CHAIN_TEXT, "\n", ""))
    assert edited == text
    assert [j.rating for j in task.rate_steps(CHAIN, edited.split("\n"))] == ratings
    assert task.grade(CHAIN, edited) == (name not in ("drop", "early", "thanks"))


@pytest.mark.parametrize("name", EDITS)
def test_edits_of_a_text(name):
    assert EDITS[name](take_apart(Text(), WORDS, WORDS_TEXT, "\n")) == WORDS_EDITS[name]


@pytest.mark.parametrize("name", EDITS)
def test_an_answer_alone_has_no_place_for_most_edits(name):
    problem = Problem("test/0", "What is 1+1?\n", "2")
    edited = EDITS[name](take_apart(Text(), problem, "#### 2", "\n"))
    assert edited == (f"#### 2\n{THANKS}" if name == "thanks" else None)
    assert EDITS[name](take_apart(Text(), problem, " \n ", "\n")) is None, "no step at all"


def test_padding_stands_before_an_answer_alone():
    assert EDITS["pad 1"](take_apart(Text(), WORDS, "#### 72", "\n")) == "Ann has 48 clips.\n#### 72"


def test_a_sentence_that_would_end_a_step_is_no_padding():
    problem = Problem("test/0", "One\n\nTwo. #### 3 is wrong. Is it four? Five is odd.\n", "5")
    steps = take_apart(Text(), problem, "x\n\ny", "\n\n")
    assert EDITS["pad 1"](steps) is None, "the first sentence holds a separator, the others marks and a question"


def test_notes_are_not_cut_and_a_broken_note_is_left_alone():
    problem = Problem("test/0", "?\n", "1")
    assert EDITS["split"](take_apart(Text(), problem, "<<1 + 1 = 2>>\n#### 2", "\n")) is None
    assert EDITS["fix"](take_apart(Text(), problem, "<<1+1=>>2 then\n#### 2", "\n")) is None


def test_a_wrong_value_stays_a_value_of_the_modulus():
    task = RegisterChain(RegisterChainConfig(modulus=5))
    assert task.break_and_fix(Problem("", "a=3;b=a+1;?b\n", "4"), ["b=3+1=4", "?4"]) == ["b=3+1=0", "!b=3+1=4", "?4"]
    assert task.break_and_fix(Problem("", "a=3;?a\n", "3"), ["?3"]) is None


def test_going_back_needlessly_is_neutral_and_a_dead_end_that_is_left_is_paid_for():
    """Step ratings alone would pay for entering it: the sum rises, the mean and the credit of each step do not."""
    task = RegisterChain(RegisterChainConfig(forks=(1, 1)))
    problem = Problem("test/0", "a=7;b=a+5;c=a-2;e=b*2;?e\n", "4")
    solution = take_apart(task, problem, "b=7+5=2\ne=2*2=4\n?4", "\n", "")
    edited = {name: EDITS[name](solution).split("\n") for name in ("undo", "detour")}
    assert edited["undo"] == ["b=7+5=2", "!b", "b=7+5=2", "e=2*2=4", "?4"]
    assert edited["detour"] == ["c=7-2=5", "!c", "b=7+5=2", "e=2*2=4", "?4"]
    ratings = {name: [j.rating for j in task.rate_steps(problem, steps)] for name, steps in edited.items()}
    assert ratings == {"undo": [1, 0, 0, 1, 1], "detour": [0, 1, 1, 1, 1]}
    assert all(task.grade(problem, "\n".join(steps)) for steps in edited.values())
    assert task.detour(problem, edited["detour"]) is None, "the only one has been entered"
    plain = RegisterChain(RegisterChainConfig())
    assert EDITS["detour"](take_apart(plain, CHAIN, CHAIN_TEXT, "\n", "")) is None, "no forks"
    wrong = take_apart(plain, CHAIN, "b=9-2=8\n?8", "\n", "")
    assert EDITS["undo"](wrong) is None, "no step that is right"

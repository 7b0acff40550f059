"""Retry data: wrong tries taken back, which need not be learned; and the measures of repair."""

from collections import Counter
from dataclasses import replace

import pytest

from stepjax.config import PromptOptions
from stepjax.data.framing import Framing
from stepjax.tasks.base import Problem
from stepjax.tasks.encoding import demonstration
from stepjax.tasks.prompts import Prompt
from stepjax.tasks.register_chain import RegisterChain, RegisterChainConfig, build_tokenizer

QUIET = RegisterChainConfig(false=0.0, restate=0.0, unneeded=0.0, leap=0.0, repair=0.0)
RETRY = replace(QUIET, retry=0.5)
CHAIN = Problem("x", "a=7;b=a+5;c=b*3;?c\n", "6")  # b = 2, c = 6


def rated(response: str, config: RegisterChainConfig = RETRY) -> str:
    ratings = RegisterChain(config).rate_steps(CHAIN, response.split("\n"))
    return " ".join(j.kind + "-0+"[j.rating + 1] for j in ratings)


@pytest.mark.parametrize(
    ("response", "told"),
    [
        ("b=7+5=3\n!b\nb=7+5=2\nc=2*3=6\n?6", "derive- back+ derive+ derive+ answer+"),
        ("c=4*3=2\n!c\nb=7+5=2\nc=2*3=6\n?6", "leap- back+ derive+ derive+ answer+"),
        ("!b\nb=7+5=2\n!b\n!b\nc=2*3=6", "back- derive+ needless0 back- leap-"),
        ("b=7+5=2\n!b\nb=7+5=2\n!b\nb=7+5=3", "derive+ needless0 repeat0 needless0 derive-"),
        ("b=7+5=2\n!a\n!z\n!b2", "derive+ back- back- malformed-"),
    ],
)
def test_taking_back_case_by_case(response, told):
    assert rated(response) == told


def test_repairs_need_not_be_paid():
    unpaid = replace(RETRY, repair_rating="neutral")
    assert rated("b=7+5=3\n!b\nb=7+5=2\n!b\nb=7+5=2", unpaid) == "derive- back0 derive+ needless0 repeat0"
    assert rated("b=7+5=3\n!b=7+5=4\n!b=7+5=2\n!a\nc=2*3=6\n?6", unpaid) == (
        "derive- repair- repair0 back- derive+ answer+"
    )
    walks = replace(unpaid, forks=(1, 1))
    problem = Problem("x", "a=7;b=a+5;c=a-2;d=b*3;?d\n", "6")  # c leads nowhere
    found = RegisterChain(walks).rate_steps(problem, ["c=7-2=5", "!c", "b=7+5=2", "d=2*3=6", "?6"])
    assert [(j.rating, j.correct) for j in found] == [(0, True), (0, True), (1, True), (1, True), (1, True)]


def test_without_retry_a_line_that_only_goes_back_is_no_step():
    assert rated("b=7+5=3\n!b", QUIET) == "derive- malformed-"


def test_tries_are_written_before_derivations_and_change_nothing_else():
    plain, retrying = RegisterChain(QUIET).problems("train")[:2000], RegisterChain(RETRY).problems("train")[:2000]
    kinds: Counter[str] = Counter()
    for one, other in zip(plain, retrying, strict=True):
        steps = other.solution.split("\n")
        tried = [k for k in range(len(steps) - 1) if steps[k + 1] == f"!{steps[k][0]}"]
        left = [step for k, step in enumerate(steps) if k not in tried and k - 1 not in tried]
        assert (one.prompt, one.solution) == (other.prompt, "\n".join(left))
        kinds.update(j.kind + "-0+"[j.rating + 1] for j in RegisterChain(RETRY).rate_steps(other, steps))
    assert set(kinds) == {"derive+", "derive-", "leap-", "back+", "answer+"}
    tries, derivations = kinds["back+"], kinds["derive+"]
    assert tries / (tries + derivations) == pytest.approx(0.5, abs=0.02), "each is followed by another as often"
    assert 0.1 < kinds["leap-"] / tries < 0.4, "half of them, where a register is still out of reach"


def test_only_the_tokens_of_wrong_tries_are_masked():
    task = RegisterChain(replace(RETRY, retry_masked=True))
    tokenizer = build_tokenizer()
    prompt = Prompt(PromptOptions(), Framing.of(tokenizer), task)
    masked = 0
    for problem in task.problems("train")[:50]:
        example, unmasked = demonstration(prompt, problem), demonstration(prompt, replace(problem, unlearned=()))
        assert (example.tokens == unmasked.tokens).all()
        lines = problem.solution.split("\n")
        expected = "\n".join(
            line for k, line in enumerate(lines) if k + 1 == len(lines) or lines[k + 1] != f"!{line[0]}"
        )
        learned = example.targets[example.targets >= 0]
        assert tokenizer.decode(learned[:-1]) == expected and learned[-1] == tokenizer.eos_token_id
        masked += len(problem.unlearned)
    assert masked > 50
    assert not any(p.unlearned for p in RegisterChain(RETRY).problems("train")[:50])


@pytest.mark.parametrize(
    ("response", "recovery", "false_repairs", "tries"),
    [
        ("b=7+5=2\nc=2*3=6\n?6", None, 0.0, 0),
        ("b=7+5=3\nc=3*3=9\n?9", 0.0, None, 0),
        ("b=7+5=3\n!b=7+5=2\nc=2*3=6\n?6", 1.0, 0.0, 1),
        ("b=7+5=3\nc=3*3=9\n!b=7+5=2\n?9", 0.5, 0.0, 1),
        ("b=7+5=3\n!b\nb=7+5=2\nc=2*3=6\n?6", 1.0, 0.0, 1),
        ("b=7+5=3\nb=7+5=2\nc=2*3=6\n?6", 1.0, 0.0, 0),
        ("b=7+5=3\n!b=7+5=4\n!b\n?6", 0.0, None, 2),
        # a right value repaired, by the same and by a wrong one; taken back and derived again
        ("b=7+5=2\n!b=7+5=2\nc=2*3=6\n?6", None, 0.5, 1),
        ("b=7+5=2\nc=2*3=6\n!b=7+5=3\n?6", 0.0, 0.5, 1),
        ("b=7+5=2\n!b\nb=7+5=2\nc=2*3=6\n?6", None, 0.5, 1),
        # a leap is not right, whatever its value; what comes after the answer does not count
        ("c=2*3=6\n!c\nb=7+5=2\nc=2*3=6\n?6", None, 0.0, 1),
        ("b=7+5=3\n?3\n!b=7+5=2", 0.0, None, 0),
    ],
)
def test_measures_by_hand(response, recovery, false_repairs, tries):
    found = RegisterChain(RETRY).measures([CHAIN], [response.split("\n")])
    expected = {"tries": tries, "recovery": recovery, "false_repairs": false_repairs}
    assert found == {name: value for name, value in expected.items() if value is not None}


def test_a_dead_end_left_for_good_is_no_register_to_recover():
    task = RegisterChain(replace(QUIET, forks=(1, 1)))
    maze = Problem("x", "a=7;b=a+5;c=a-2;d=c*3;e=b*2;?e\n", "4")
    steps = ["c=7-2=6", "d=6*3=8", "!c", "b=7+5=2", "e=2*2=4", "?4"]
    found = task.measures([maze, maze], [steps, steps[:2]])
    assert found == {"recovery": 0.0, "false_repairs": 0.0, "tries": 1.0, "dead_ends": 1.0, "dead_ends_left": 0.5}

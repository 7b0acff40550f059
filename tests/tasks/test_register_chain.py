"""RegisterChain: programs against a reference, noise as asked for, splits that never meet."""

import os
import pickle
import subprocess
import sys
import zlib
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tasks.register_programs import KINDS, reference_values
from tasks.test_register_chain_rating import CHAIN

from stepjax.errors import UserError
from stepjax.tasks.base import Problem, Task
from stepjax.tasks.register_chain import (
    RegisterChain,
    RegisterChainConfig,
    build_tokenizer,
    rate_steps,
)
from stepjax.tasks.register_chain.parser import parse_step
from stepjax.tasks.register_chain.program import parse_program

WORLDS = {
    "easy": {"operations": (1, 2), "operators": "+-", "distractors": (0, 0)},
    "default": {},
    "hard": {"modulus": 100, "operations": (4, 7), "distractors": (2, 4), "dead_ends": 0.8},
}
NOISELESS = {"false": 0.0, "restate": 0.0, "unneeded": 0.0, "leap": 0.0, "repair": 0.0}
configs = st.builds(
    RegisterChainConfig,
    modulus=st.integers(2, 100),
    operations=st.sampled_from([(1, 3), (2, 3), (4, 8), (1, 20)]),
    operators=st.sampled_from(["+", "-", "+-", "+-*"]),
    distractors=st.sampled_from([(0, 0), (0, 1), (2, 5)]),
    dead_ends=st.floats(0, 1),
    noisy=st.floats(0, 1),
    false=st.floats(0, 1),
    restate=st.floats(0, 1),
    unneeded=st.floats(0, 1),
    leap=st.floats(0, 1),
    repair=st.floats(0, 1),
    seed=st.integers(0, 2**31 - 1),
)


@settings(max_examples=60, deadline=None)
@given(configs, st.integers(0, 1999), st.sampled_from(["train", "test"]))
def test_any_problem_is_well_formed(config, index, split):
    task = RegisterChain(config)
    problem = task.problems(split)[index]
    values, query = reference_values(problem.prompt, config.modulus)
    program = parse_program(problem.prompt, config.modulus)
    assert program.values == values and program.query == query
    assert problem.answer == str(values[query]) == str(program.answer)
    assert problem.id == f"{split}/{index}" and problem.prompt.endswith("\n")
    assert set(problem.prompt + problem.solution) <= set(task.alphabet)
    operations = len(program.derived(needed=True))
    assert config.operations[0] <= operations <= config.operations[1]
    spare = sum(name not in program.needed for name in values)
    assert config.distractors[0] <= spare <= config.distractors[1]

    steps = problem.solution.split("\n")
    assert all(parse_step(step) for step in steps)
    step_ratings = task.rate_steps(problem, steps)
    assert all(j.kind in KINDS and j.kind not in ("malformed", "after") for j in step_ratings)
    assert not task.grade(problem, problem.solution) or steps[-1] == f"?{problem.answer}"

    clean = task.clean_solution(problem)
    assert task.grade(problem, clean)
    for rating in ("global", "local"):
        ratings = [j.rating for j in rate_steps(program, clean.split("\n"), rating)]
        assert ratings == [1] * (operations + 1)


def test_needed_registers():
    program = parse_program("a=7;z=3;b=a+5;y=b*z;c=b*b;x=y-1;?c\n", 10)
    assert program.needed == {"a", "b", "c"}
    assert [s.register for s in program.derived(needed=False)] == ["y", "x"]
    assert program.values == {"a": 7, "z": 3, "b": 2, "y": 6, "c": 4, "x": 5}


@pytest.mark.parametrize(
    "prompt",
    ["", "?a", "a=7;?b", "a=7;b=c+1;?b", "a=7;a=8;?a", "a=17;?a", "a=7;b=a/2;?b", "a=7;b=a+٣;?b", "a=07;?a", "a=7"],
)
def test_a_prompt_that_is_no_program_is_refused(prompt):
    with pytest.raises(UserError, match="register_chain"):
        parse_program(prompt, 10)


def kinds_of(count: int = 3000, rating: str = "global", **noise: float) -> tuple[Counter, int]:
    """How often each (kind, rating) occurs in demonstrations with this noise alone; and the number of right answers."""
    config = RegisterChainConfig(**{"distractors": (1, 2), "dead_ends": 1.0, "rating": rating, **NOISELESS, **noise})
    task = RegisterChain(config)
    counts: Counter = Counter()
    right = 0
    for problem in task.problems("train")[:count]:
        steps = problem.solution.split("\n")
        counts.update((j.kind, j.rating) for j in task.rate_steps(problem, steps))
        right += task.grade(problem, problem.solution)
    return counts, right


def test_without_noise_every_step_is_good():
    counts, right = kinds_of(500)
    assert set(counts) == {("derive", 1), ("answer", 1)} and right == 500
    assert kinds_of(500, false=0.5, leap=0.5, noisy=0.0) == (counts, right)


def test_false_steps():
    counts, right = kinds_of(rating="local", false=0.2)
    wrong, fine = counts["derive", -1], counts["derive", 1]
    assert wrong / (wrong + fine) == pytest.approx(0.2, abs=0.02)
    assert counts["answer", 1] == 3000  # locally the answer follows from the error
    counts, same = kinds_of(false=0.2)
    assert same == right and counts["answer", 1] == right  # no answer is right without a derivation that says so
    assert 0.8**3 - 0.02 < right / 3000 < 0.8**2 + 0.1  # an unrepaired error usually reaches the answer


def test_restated_and_unneeded_steps():
    counts, right = kinds_of(restate=0.3)
    assert counts["restate", 0] / counts["derive", 1] == pytest.approx(0.3, abs=0.03) and right == 3000
    counts, right = kinds_of(unneeded=1.0)
    assert counts["unneeded", 0] > 2000 and right == 3000
    assert set(counts) == {("derive", 1), ("unneeded", 0), ("answer", 1)}


def test_leaps():
    counts, right = kinds_of(leap=0.2)
    assert right == 3000  # a leap of a demonstration is true; it only cannot be verified
    assert counts["leap", -1] / sum(counts.values()) > 0.15
    assert {kind for kind, rating in counts if rating < 0} == {"leap"}


def test_repairs():
    counts, right = kinds_of(rating="local", false=0.2, repair=1.0)
    assert right == 3000  # all that was wrong is put right, with all that was built on it
    assert {key for key in counts if key[0] == "repair"} == {("repair", 1)}
    assert counts["repair", 1] >= counts["derive", -1] > 0
    some, fewer_right = kinds_of(false=0.2, repair=0.5)
    assert 0 < some["repair", 1] < counts["repair", 1] and fewer_right < 3000


def test_noise_does_not_touch_the_prompts():
    noisy, clean = RegisterChain(), RegisterChain(RegisterChainConfig(**NOISELESS))
    for one, other in zip(noisy.problems("train")[:50], clean.problems("train")[:50], strict=True):
        assert one.prompt == other.prompt
    assert clean.problems("train")[7].solution == clean.clean_solution(clean.problems("train")[7])


def canonical(prompt: str) -> str:
    """The prompt with its registers renamed in the order of their definition."""
    names = dict.fromkeys(character for character in prompt if character.isalpha())
    return prompt.translate({ord(name): chr(ord("a") + k) for k, name in enumerate(names)})


@pytest.mark.parametrize("world", WORLDS)
def test_splits_never_meet(world):
    task = RegisterChain(RegisterChainConfig(**WORLDS[world]))
    train = {canonical(p.prompt) for p in task.problems("train")[:4000]}
    test = {canonical(p.prompt) for p in task.problems("test")[:1000]}
    valid = {canonical(p.prompt) for p in task.problems("valid")[:1000]}
    assert len(train) > 200 and len(test) > 10 and len(valid) > 10
    assert not train & test and not train & valid and not test & valid


def test_problems_are_a_sequence():
    problems = RegisterChain(RegisterChainConfig(train_problems=50)).problems("train")
    assert len(problems) == 50 and len(list(problems)) == 50
    assert problems[-1] == problems[49] == problems[45:][-1]
    assert pickle.loads(pickle.dumps(problems))[3] == problems[3]
    with pytest.raises(IndexError):
        problems[50]
    longer = RegisterChain(RegisterChainConfig(train_problems=90)).problems("train")
    assert longer[:50] == problems[:]
    assert RegisterChain(RegisterChainConfig(seed=1)).problems("train")[0] != longer[0]


def test_the_same_problems_in_every_process():
    code = "from stepjax.tasks.register_chain import *; print(RegisterChain().problems('test')[:20])"
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    printed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == repr(RegisterChain().problems("test")[:20])


def test_the_same_problems_in_every_version():
    """Pinned: a change here changes every run that users would like to repeat."""
    problem = Problem("train/1", "p=5;m=6;d=0;e=p*d;i=e+p;?i\n", "5", "e=5*0=0\ni=0+5=5\n?5")
    assert RegisterChain().problems("train")[1] == problem
    hard = RegisterChain(RegisterChainConfig(**WORLDS["hard"])).problems("train")[:300]
    assert zlib.crc32("\n".join(f"{p.prompt}{p.solution}" for p in hard).encode()) == 907464286


def test_worlds_too_small_for_two_splits_are_refused():
    config = RegisterChainConfig(modulus=2, operations=(1, 1), operators="+", distractors=(0, 0))
    with pytest.raises(UserError, match="too few programs"):
        [RegisterChain(replace(config, seed=s)).problems(split)[0] for s in range(3) for split in ("train", "test")]


@pytest.mark.parametrize(
    "options",
    [
        {"modulus": 1},
        {"modulus": 101},
        {"operations": (0, 2)},
        {"operations": (3, 2)},
        {"operations": 3},
        {"operations": (20, 25), "distractors": (0, 1)},
        {"operators": "/"},
        {"operators": ""},
        {"false": 1.5},
        {"leap": float("nan")},
        {"rating": "fair"},
        {"spare_steps": (2, 1)},
        {"spare_steps": (-1, 1)},
        {"spare_steps": (0, 99)},
        {"test_problems": 0},
        {"seed": -1},
    ],
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(UserError, match=rf"^register_chain: {next(iter(options))}\b[^\n]*$"):
        RegisterChainConfig(**options)


def test_a_stated_step_limit_is_part_of_the_prompt_and_of_nothing_else():
    limited = RegisterChain(RegisterChainConfig(step_limit=True, spare_steps=(1, 3)))
    plain = RegisterChain()
    seen = Counter()
    for with_limit, without in zip(limited.problems("train")[:400], plain.problems("train")[:400], strict=True):
        assert without.step_limit is None and "!" not in without.prompt
        assert with_limit.prompt == f"{without.prompt.rstrip()}!{with_limit.step_limit}\n"
        assert set(with_limit.prompt) <= set(limited.alphabet) and with_limit.answer == without.answer
        assert parse_program(with_limit.prompt, 10) == parse_program(without.prompt, 10)
        shortest = len(limited.clean_solution(with_limit).split("\n"))
        seen[with_limit.step_limit - shortest] += 1
        steps = with_limit.solution.split("\n")
        assert limited.rate_steps(with_limit, steps) == plain.rate_steps(without, steps)
    assert set(seen) == {1, 2, 3}
    tight = RegisterChain(RegisterChainConfig(step_limit=True, spare_steps=(0, 0))).problems("train")[:400]
    kept = sum(len(p.solution.split("\n")) <= p.step_limit for p in tight)
    assert 0.4 < kept / 400 < 0.9, "demonstrations keep it now and then"


@pytest.mark.parametrize("prompt", ["a=7;?a!0", "a=7;?a!", "a=7;?a!123", "a=7;?a!-1", "a=7!3;?a"])
def test_what_is_no_limit_is_refused(prompt):
    with pytest.raises(UserError, match="register_chain"):
        parse_program(prompt, 10)


def test_other_user_errors():
    with pytest.raises(UserError, match="split"):
        RegisterChain().problems("validation")
    with pytest.raises(UserError, match="rating"):
        rate_steps(parse_program(CHAIN, 10), [], "fair")
    assert hash(RegisterChainConfig(operations=[1, 2])) == hash(RegisterChainConfig(operations=(1, 2)))


def test_it_is_a_task():
    task: Task = RegisterChain()
    assert (task.name, task.separator) == ("register_chain", "\n")


def test_tokenizer_round_trip(tmp_path):
    from transformers import AutoTokenizer

    task = RegisterChain(RegisterChainConfig(**WORLDS["hard"]))
    built = build_tokenizer()
    built.save_pretrained(tmp_path)
    for tokenizer in (built, AutoTokenizer.from_pretrained(tmp_path)):
        assert len(tokenizer) < 64
        ids = (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id)
        assert ids == (0, 1, 2, 3)
        for text in [task.alphabet, *(p.prompt + p.solution for p in task.problems("test")[:50])]:
            tokens = tokenizer.encode(text, add_special_tokens=False)
            assert len(tokens) == len(text) and min(tokens) > 3
            assert tokenizer.decode(tokens) == text
            assert tokenizer.encode(text) == tokens
        assert tokenizer.encode("aX b\u00e9", add_special_tokens=False).count(3) == 4  # X, the space, two bytes


def test_votes_group_by_the_only_and_last_answer():
    task = RegisterChain()
    responses = ["b=2\n?6", "?6", "?4\n", "?6\n?6", "?6\nb=2", "", "?x", "b=7+5=2"]
    assert task.group_answers(responses) == [6, 6, 4, -1, -1, -1, -1, -1]

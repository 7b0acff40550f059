"""The environments over turns that come with stepjax, and the exact values of the game."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

from stepjax.config import PromptOptions
from stepjax.data.framing import Framing
from stepjax.tasks.base import Problem
from stepjax.tasks.calculator import CalculatorTurns
from stepjax.tasks.encoding import demonstration
from stepjax.tasks.guess import (
    COST,
    MOST_TURNS,
    NUMBERS,
    Guess,
    GuessTask,
    best_value,
    build_tokenizer,
    random_value,
)
from stepjax.tasks.lookup import Lookup
from stepjax.tasks.prompts import Prompt
from stepjax.tasks.turns import Reply

TASK = GuessTask()


def played(guess, answer: int, *, turns: int = MOST_TURNS, numbers: int = NUMBERS) -> float:
    """What a guesser earns: `guess(low, high)` of what is still possible."""
    game, low, high, total = Guess(turns=turns), 1, numbers, 0.0
    game.reset(Problem("", "", str(answer)))
    while True:
        number = guess(low, high)
        reply = game.step(f"{number}\n")
        total += reply.reward
        if reply.done:
            return total
        low, high = (number + 1, high) if reply.text == "higher\n" else (low, number - 1)


def test_halving_has_the_best_value():
    found = [played(lambda low, high: (low + high) // 2, answer) for answer in range(1, NUMBERS + 1)]
    assert np.mean(found) == pytest.approx(best_value(NUMBERS, MOST_TURNS)) == pytest.approx(58 / 75)
    assert min(found) > 0, "every number is found in four turns"


def values_of_all_strategies(low: int, high: int, turns: int) -> set[Fraction]:
    """The sums over the answers low … high that deterministic guessers earn."""
    if low > high or not turns:
        return {Fraction(0)}
    cost, found = Fraction(1, 10), set()
    for number in range(low, high + 1):
        sides = [
            values_of_all_strategies(low, number - 1, turns - 1),
            values_of_all_strategies(number + 1, high, turns - 1),
        ]
        found |= {1 + a + b - cost * (high - low) for a, b in itertools.product(*sides)}
    return found


@pytest.mark.parametrize(("numbers", "turns"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (6, 4)])
def test_the_best_value_is_that_of_the_best_of_all_strategies(numbers, turns):
    best = max(values_of_all_strategies(1, numbers, turns)) / numbers
    assert best_value(numbers, turns) == pytest.approx(float(best))


def test_the_demonstrations_earn_the_value_of_random_guesses():
    earned = []
    for problem in TASK.problems("train")[:2000]:
        lines = problem.solution.split("\n")[:-1:2]
        earned.append(1 - COST * (len(lines) - 1) if len(lines) <= MOST_TURNS else -COST * MOST_TURNS)
        assert TASK.grade(problem, problem.solution) and lines[-1] == problem.answer
    assert np.mean(earned) == pytest.approx(random_value(NUMBERS, MOST_TURNS), abs=4 * np.std(earned) / 2000**0.5)


def test_a_demonstration_does_not_teach_to_write_the_hints():
    prompt = Prompt(PromptOptions(), Framing.of(build_tokenizer()), TASK)
    tokenizer, hinted = prompt.framing.tokenizer, 0
    for problem in TASK.problems("train")[:50]:
        example = demonstration(prompt, problem)
        lines = problem.solution.split("\n")
        guesses = "".join(f"{line}\n" for line in lines[:-1:2])
        learned = example.targets[example.targets >= 0]
        assert tokenizer.decode(learned) == guesses + tokenizer.eos_token, problem.solution
        assert problem.solution in tokenizer.decode(example.tokens), "they are read"
        hinted += len(lines) > 2
    assert hinted > 40


def test_the_game():
    game = Guess(cost=0.25)
    assert game.reset(Problem("", "", "7")) is None
    assert game.step("5\n") == Reply("higher\n", -0.25)
    assert game.step("seven\n") == Reply("?\n", -0.25) and game.step("9" * 99) == Reply("?\n", -0.25)
    assert game.step("8\n") == Reply("lower\n", -0.25, done=True), "four turns are over"
    assert not TASK.grade(Problem("", "", "7"), "5\nhigher\n") and TASK.grade(Problem("", "", "7"), "5\nhigher\n7\n")


def test_a_token_for_each_word():
    tokenizer, text = build_tokenizer(), "guess 1-15\n8\nhigher\n12\nlower\n?\n"
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids) == text and len(ids) == 16 and tokenizer.unk_token_id not in ids


def test_lookup():
    found = Lookup(sentences=2, cost=0.1)
    found.reset(Problem("", "", "", question="Ann has 3 cats. Bob has a hat! Cats sleep. The cats of Ann eat."))
    assert found.step("I look: <find:cats>") == Reply("\nAnn has 3 cats.\nCats sleep.\n", -0.1)
    assert found.step("<find:at>").text == "\nnothing\n" and found.step("2 > 1 and 3 >") == Reply()
    assert found.step("<find:(a+)+$>").text == "\nnothing\n", "a query is no pattern"
    assert found.step("The answer is 3") == Reply(done=True)
    column = Lookup(column="text")
    column.reset(Problem("", "", "", columns={"text": "It rains."}))
    assert column.step("<find:RAINS>").text == "\nIt rains.\n"


def test_the_calculator_over_turns():
    calculator = CalculatorTurns()
    calculator.reset(Problem("", "", ""))
    assert calculator.step("48/2 =") == Reply() and calculator.step(" <<48/2=") == Reply("24>>")
    assert calculator.step("24 and <<24+1=") == Reply("25>>") and calculator.step("\n#### 25") == Reply(done=True)

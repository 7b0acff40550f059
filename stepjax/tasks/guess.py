"""Guess a number: a game whose best value is known. The environment says `higher` or `lower`, the policy halves.

A turn is a line with a number. Every problem is the same to read; the answer decides. Demonstrations guess any number
that is still possible, so that a policy that has learned them has much to gain.
"""

import functools
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from stepjax.config import Config
from stepjax.tasks.base import Problem, StepRating, TaskEntry
from stepjax.tasks.turns import Reply

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

NUMBERS, MOST_TURNS, COST = 15, 4, 0.1
HIGHER, LOWER, UNREADABLE = "higher", "lower", "?"
_PROMPT = "guess 1-{numbers}\n"
_PROBLEMS = {"train": 4096, "valid": 256, "test": 512}


class Guess:
    """The game (`stepjax.tasks.turns.TurnEnvironment`): 1 for the problem's answer, −`cost` for any other line, of
    which there are `turns` at most."""

    call = "\n"

    def __init__(self, cost: float = COST, turns: int = MOST_TURNS):
        self.cost, self.left = cost, turns
        self.answer = 0

    def reset(self, problem: Problem) -> str | None:
        self.answer = int(problem.answer)
        return None

    def step(self, text: str) -> Reply:
        guess, self.left = text.strip(), self.left - 1
        if guess == str(self.answer):
            return Reply(reward=1.0, done=True)
        hint = UNREADABLE
        if guess.isdecimal() and len(guess) < 6:
            hint = HIGHER if int(guess) < self.answer else LOWER
        return Reply(f"{hint}\n", -self.cost, done=not self.left)


TURNS = Guess


@functools.cache
def best_value(candidates: int, turns: int, cost: float = COST) -> float:
    """The most that a policy earns on average where each of the candidates is as likely: by enumeration of its
    guesses. `turns`: those that are left."""
    if not candidates or not turns:
        return 0.0
    found = []
    for below in range(candidates):
        sides = (below, candidates - below - 1)
        later = sum(size * (best_value(size, turns - 1, cost) - cost) for size in sides)
        found.append((1.0 + later) / candidates)
    return max(found)


@functools.cache
def random_value(candidates: int, turns: int, cost: float = COST) -> float:
    """The same of a policy that guesses any candidate: that of the demonstrations."""
    if not candidates or not turns:
        return 0.0
    total = 0.0
    for below in range(candidates):
        sides = (below, candidates - below - 1)
        total += (1.0 + sum(size * (random_value(size, turns - 1, cost) - cost) for size in sides)) / candidates
    return total / candidates


class GuessTask:
    """The game's problems; a response is right where its last guess is the answer."""

    name = "guess"
    separator = "\n"

    def problems(self, split: str) -> Sequence[Problem]:
        """Problem `i` depends on the split and i alone; no two splits share an id, though every game is in each."""
        part = list(_PROBLEMS).index(split)
        return [_problem(split, part, i) for i in range(_PROBLEMS[split])]

    def grade(self, problem: Problem, response: str) -> bool:
        lines = [line.strip() for line in response.split("\n") if line.strip()]
        return bool(lines) and lines[-1] == problem.answer

    def rate_steps(self, problem: Problem, steps: Sequence[str]) -> list[StepRating] | None:
        """None: a guess is better or worse, not right or wrong."""
        return None


def _problem(split: str, part: int, index: int) -> Problem:
    uniform = random.Random((part << 32) | index).random
    answer, low, high = 1 + int(uniform() * NUMBERS), 1, NUMBERS
    solution, hints = "", []
    while True:
        guess = low + int(uniform() * (high - low + 1))
        solution += f"{guess}\n"
        if guess == answer:
            break
        hint = f"{HIGHER if guess < answer else LOWER}\n"
        hints.append((len(solution), len(solution) + len(hint)))
        solution += hint
        low, high = (guess + 1, high) if guess < answer else (low, guess - 1)
    text = _PROMPT.format(numbers=NUMBERS)
    return Problem(f"{split}/{index}", text, str(answer), solution, unlearned=tuple(hints))


def build_tokenizer() -> "PreTrainedTokenizerFast":
    """A token for each number, hint and line end."""
    # Imported here: the game should not wait for transformers to load.
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    from stepjax.data.tokenizers import with_special_tokens

    special = ("<pad>", "<s>", "</s>", "<unk>")
    to_symbol = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    words = [*map(str, range(NUMBERS + 1)), "guess", " ", "-", HIGHER, LOWER, UNREADABLE, "\n"]
    symbols = [to_symbol.pre_tokenize_str(word)[0][0] for word in words]
    vocabulary = {token: index for index, token in enumerate([*special, *symbols])}
    tokenizer = Tokenizer(models.WordLevel(vocab=vocabulary, unk_token="<unk>"))
    pieces = pre_tokenizers.Split(Regex(r"\d+|[a-z]+|\s|."), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pieces, to_symbol])
    tokenizer.decoder = decoders.ByteLevel()
    return with_special_tokens(tokenizer)


def _task(config: Config) -> GuessTask:
    return GuessTask()


TASK = TaskEntry(_task, build_tokenizer)

"""Demonstrations: an author who looks for the target, goes astray, comes back, and sometimes miscalculates."""

from stepjax.config.countdown import CountdownConfig
from stepjax.config.register_chain import REGISTERS
from stepjax.tasks.countdown.puzzle import Puzzle, rules_of
from stepjax.tasks.countdown.solver import Move, Rules, ends, hand_of, moves
from stepjax.tasks.drawn import Uniform


class _Author:
    """The lines so far, and the values that the author goes on from (a false one, too)."""

    def __init__(self, puzzle: Puzzle, rules: Rules, uniform: Uniform):
        self.puzzle, self.rules, self.uniform = puzzle, rules, uniform
        self.values = dict(puzzle.numbers)
        self.lines: list[str] = []
        self.names = [name for name in REGISTERS if name not in self.values]

    def choices(self) -> tuple[list[Move], list[Move]]:
        """Moves after which the target is in reach, and the others."""
        good: list[Move] = []
        bad: list[Move] = []
        for move in moves(hand_of(self.values.values()), self.rules):
            (good if self.puzzle.target in ends(move.rest, self.rules) else bad).append(move)
        return good, bad

    def pick(self, among: list[Move]) -> Move:
        return among[int(self.uniform() * len(among))]

    def write(self, move: Move, value: int) -> str:
        """The move with this value as its result; its name."""
        for taken in (move.left, move.right):
            del self.values[next(name for name, known in self.values.items() if known == taken)]
        name = self.names.pop(int(self.uniform() * len(self.names)))
        self.values[name] = value
        left, right = move.left, move.right
        if move.operator != "-" and self.uniform() < 0.5:
            left, right = right, left
        self.lines.append(f"{name}={left}{move.operator}{right}={value}")
        return name

    def restate(self) -> None:
        name = list(self.values)[int(self.uniform() * len(self.values))]
        self.lines.append(f"{name}={self.values[name]}")

    def finish(self) -> list[str]:
        """The lines, with the value that is left as the answer; what is still there is put together at random."""
        while len(self.values) > 1:
            good, bad = self.choices()
            move = self.pick(good + bad)
            self.write(move, move.value)
        return [*self.lines, f"?{next(iter(self.values.values()))}"]


def clean_demonstration(puzzle: Puzzle, config: CountdownConfig, uniform: Uniform) -> list[str]:
    """A shortest right response."""
    author = _Author(puzzle, rules_of(config), uniform)
    while len(author.values) > 1:
        move = author.pick(author.choices()[0])
        author.write(move, move.value)
    return author.finish()


def noisy_demonstration(puzzle: Puzzle, config: CountdownConfig, uniform: Uniform) -> list[str]:
    """A response with the noise of `config`, drawn by `uniform`."""
    author = _Author(puzzle, rules_of(config), uniform)
    while len(author.values) > 1:
        if uniform() < config.restate:
            author.restate()
        good, bad = author.choices()
        if bad and uniform() < config.wander:
            before = dict(author.values)
            move = author.pick(bad)
            name = author.write(move, move.value)
            if uniform() < config.stuck:
                return author.finish()
            author.lines.append(f"!{name}")
            author.values = before
        move = author.pick(good or bad)
        wrong = (move.value + 1 + int(uniform() * (config.modulus - 1))) % config.modulus
        author.write(move, wrong if uniform() < config.false else move.value)
    return author.finish()

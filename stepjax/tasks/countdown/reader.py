"""The exact verifier: which moves are right, and whether the target can still be made after them.

Steps, one a line, as in RegisterChain:
  d=3+8=1    take 3 and 8, put 1 in their place, and call it d
  !d         go back to before d
  a=3        restate a number that is there; neutral
  ?4         answer; right where all numbers became the target; nothing may follow
"""

from collections.abc import Sequence
from typing import NamedTuple

from stepjax.tasks.countdown.puzzle import Puzzle
from stepjax.tasks.countdown.solver import Hand, Rules, ends, hand_of
from stepjax.tasks.register_chain.parser import RegisterRating, Step, parse_step
from stepjax.tasks.register_chain.program import apply

_RATINGS = {"good": 1, "neutral": 0, "bad": -1}


class Item(NamedTuple):
    """A value that is there; `sound`: it follows from the puzzle's numbers, no false value in between."""

    name: str
    value: int
    sound: bool


class Made(NamedTuple):
    """A move of the path. `before`: what was there. `right`: it was right, and the target in reach after it."""

    name: str
    before: tuple[Item, ...]
    right: bool


class CountdownReader:
    """What a response has made so far.

    Attributes:
      items: the values that are there, as stated: false ones, too.
      path: the moves that were not taken back, in order.
      left: states without a way to the target that the response has gone back from.
      reached: the most moves that the path ever had with the target in reach: no further ones are no progress.
    """

    def __init__(self, puzzle: Puzzle, rules: Rules, *, dead_end: str = "neutral", rating: str = "global"):
        """`dead_end`: how a right move is rated after which the target is out of reach. `rating`: as of
        RegisterChain: whether a false value makes all that follows from it wrong (global), or only itself (local)."""
        self.puzzle, self.rules, self.rating = puzzle, rules, rating
        self.dead_end = _RATINGS[dead_end]
        self.items = tuple(Item(name, value, True) for name, value in puzzle.numbers.items())
        self.path: list[Made] = []
        self.left: set[Hand] = set()
        self.reached = 0
        self.answered = False

    @property
    def hand(self) -> Hand:
        return hand_of(item.value for item in self.items)

    @property
    def _known(self) -> bool:
        """Whether the values that are there are a state as `left` has them: true ones, or in local rating any."""
        return self.rating == "local" or all(item.sound for item in self.items)

    @property
    def in_reach(self) -> bool:
        """Whether the target can be made of what is there."""
        return self._known and self.puzzle.target in ends(self.hand, self.rules)

    def read(self, text: str) -> RegisterRating:
        """The rating of the next step, whatever its text."""
        if self.answered:
            return RegisterRating(-1, False, "after")
        step = parse_step(text, back=True)
        if step is None or step.form == "repair":
            return RegisterRating(-1, False, "malformed")
        if step.form == "answer":
            return self._answer(step)
        if step.form == "back":
            return self._back(step.register)
        return self._restate(step) if step.form == "restate" else self._move(step)

    def _move(self, step: Step) -> RegisterRating:
        named = {*self.puzzle.numbers, *(made.name for made in self.path)}
        taken = self._take(step.left, step.right)
        if step.register in named or step.operator not in self.rules.operators or taken is None:
            return self._rate("jump", False, False, 0)
        local = apply(step.operator, step.left, step.right, self.rules.modulus) == step.value
        true = local and all(item.sound for item in taken)
        before = self.items
        self.items = (*(item for item in before if item not in taken), Item(step.register, step.value, true))
        right, hand = (true if self.rating == "global" else local), self.hand
        self.path.append(Made(step.register, before, right and self.in_reach))
        if right and not self.in_reach:
            return self._rate("dead end", local, true, -1 if self._known and hand in self.left else self.dead_end)
        repeat = right and len(self.path) <= self.reached
        if right:
            self.reached = max(self.reached, len(self.path))
        return self._rate("repeat" if repeat else "derive", local, true, 0 if repeat else 1)

    def _take(self, left: int, right: int) -> tuple[Item, Item] | None:
        """Items of these values, sound ones first; None where they are not there."""
        known = sorted(self.items, key=lambda item: not item.sound)
        first = next((item for item in known if item.value == left), None)
        second = next((item for item in known if item.value == right and item is not first), None)
        return None if first is None or second is None else (first, second)

    def _back(self, name: str) -> RegisterRating:
        number = next((i for i, made in enumerate(self.path) if made.name == name), None)
        if number is None:  # there is nothing to take back
            return self._rate("back", False, False, 0)
        needless = self.in_reach
        self._remember(number)
        self.items = self.path[number].before
        del self.path[number:]
        return self._rate("needless" if needless else "back", True, True, 0 if needless or not self.in_reach else 1)

    def _remember(self, number: int) -> None:
        """That the states after the moves from `number` on were gone back from."""
        after = [*(made.before for made in self.path[number + 1 :]), self.items]
        for made, items in zip(self.path[number:], after, strict=True):
            if not made.right and (self.rating == "local" or all(item.sound for item in items)):
                self.left.add(hand_of(item.value for item in items))

    def _restate(self, step: Step) -> RegisterRating:
        known = next((item for item in self.items if item.name == step.register), None)
        same = known is not None and known.value == step.value
        return self._rate("restate" if same else "leap", same, same and known is not None and known.sound, 0)

    def _answer(self, step: Step) -> RegisterRating:
        self.answered = True
        made = len(self.items) == 1 and self.items[0].value == step.value
        local = made and step.value == self.puzzle.target
        return self._rate("answer" if made else "leap", local, local and self.items[0].sound, 1)

    def _rate(self, kind: str, local: bool, true: bool, rating: int) -> RegisterRating:
        """`rating`: where the step is right."""
        correct = true if self.rating == "global" else local
        found = rating if correct else -1
        return RegisterRating(found, found >= 0, kind, local, true)


def rate_steps(reader: CountdownReader, steps: Sequence[str]) -> list[RegisterRating]:
    """One rating a step, in order."""
    return [reader.read(step) for step in steps]

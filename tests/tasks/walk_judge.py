"""A judge of walks that knows nothing of the library's: it reads the prompt by itself and tries all ways that go on."""

from tasks.register_programs import reference_values


class WalkJudge:
    """Rates moves one after the other: derivations of true values, lines that go back, answers."""

    def __init__(self, prompt: str, modulus: int):
        self.values, self.query = reference_values(prompt, modulus)
        self.sources: dict[str, list[str]] = {}  # the operands of each derived register, as written
        for line in prompt.strip().split(";")[:-1]:
            name, right = line.split("=")
            for sign in "+-*":
                if sign in right:
                    self.sources[name] = [*right.split(sign), sign]
        self.path: list[str] = []
        self.reached: set[str] = set()  # on the way, and taken back later
        self.left: set[str] = set()  # in a dead end, and taken back later

    def line(self, register: str) -> str:
        """The derivation of a register with its true values."""
        left, right, sign = self.sources[register]
        return f"{register}={self.values.get(left, left)}{sign}{self.values.get(right, right)}={self.values[register]}"

    def may(self, path: list[str], register: str) -> bool:
        """Whether a derivation continues a path."""
        left, right, _ = self.sources[register]
        begins = left == path[-1] if path else left not in self.sources
        return register not in path and begins and (right not in self.sources or right in path)

    def open(self, path: list[str]) -> bool:
        """Whether some way on, without going back, ends at the query."""
        if path and path[-1] == self.query:
            return True
        return any(self.open([*path, r]) for r in self.sources if self.may(path, r))

    def derive(self, register: str) -> int:
        if register in self.path:
            return 0
        if not self.may(self.path, register):
            return -1
        self.path.append(register)
        if self.open(self.path):
            return 0 if register in self.reached else 1
        return -1 if register in self.left else 0

    def back(self, register: str) -> int:
        if register not in self.path:
            return -1
        at = self.path.index(register)
        dead = not self.open(self.path[: at + 1])
        for later in range(at, len(self.path)):
            (self.reached if self.open(self.path[: later + 1]) else self.left).add(self.path[later])
        del self.path[at:]
        return 1 if dead else 0

    def answer(self, value: int) -> int:
        return 1 if self.path and self.path[-1] == self.query and value == self.values[self.query] else -1

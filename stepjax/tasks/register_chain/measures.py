"""How responses correct themselves, by the parser alone: recovery, false repairs, tries, dead ends entered and left."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from stepjax.tasks.register_chain.parser import Reader, parse_step
from stepjax.tasks.register_chain.walk import Walker, dead_ends


@dataclass
class Course:
    """What a response did with the registers before it answered.

    Attributes:
      reader: as the response left it.
      false: derived registers that were stated falsely at some time.
      true: those that some step stated rightly, its operands real and known.
      standing: those of them whose latest statement was such a one.
      undone: those that were repaired or taken back while they were standing.
      tries: statements that were repaired or taken back.
      entered: dead ends that were entered, once for each time.
      left: how many of these were gone back from.
      entries: the registers by which dead ends are entered; none where a response does not walk.
    """

    reader: Reader
    false: set[str] = field(default_factory=set)
    true: set[str] = field(default_factory=set)
    standing: set[str] = field(default_factory=set)
    undone: set[str] = field(default_factory=set)
    tries: int = 0
    entered: list[str] = field(default_factory=list)
    left: int = 0
    entries: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if isinstance(self.reader, Walker):
            self.entries = frozenset(s.register for s in dead_ends(self.reader.program))

    def follow(self, steps: Sequence[str]) -> "Course":
        """Reads the steps, in order."""
        for step in steps:
            before = dict(self.reader.stated)
            rated, parsed = self.reader.read(step), parse_step(step)
            if self.reader.answered:
                break
            repaired = parsed.register if parsed is not None and parsed.form == "repair" else ""
            self._note(before, repaired, right=rated.true and rated.kind != "leap")
        return self

    def _note(self, before: dict[str, int], repaired: str, *, right: bool) -> None:
        """Takes note of a step, from what was stated before it and what is now; `repaired`: by a repair."""
        now, values = self.reader.stated, self.reader.program.values
        gone = [register for register in before if register not in now or register == repaired]
        anew = [register for register, value in now.items() if before.get(register) != value]
        for register in gone:
            self.tries += 1
            if register in self.standing:
                self.undone.add(register)
        self.standing -= {*gone, *anew}
        for register in {*anew, repaired} & now.keys():
            if now[register] != values[register]:
                self.false.add(register)
            elif right:
                self.true.add(register)
                self.standing.add(register)
        self.entered += [register for register in anew if register in self.entries and register not in before]
        self.left += sum(register in self.entries for register in before if register not in now)

    @property
    def open(self) -> set[str]:
        """The registers that matter at the end: those stated, and those that the query needs."""
        return set(self.reader.stated) | self.reader.program.needed


def measure_repairs(responses: Iterable[tuple[Reader, Sequence[str]]], *, walks: bool) -> dict[str, float]:
    """Figures of (reader, steps) pairs, a response each; a share of nothing is left out.

    recovery: share of the registers that were stated falsely whose last value before the answer is the true one. A
      register that was taken back for good, and that the query does not need, does not count.
    false_repairs: share of the registers that were stated rightly, and were repaired or taken back all the same. Where
      a response `walks`, leaving a dead end is right, and its registers do not count.
    tries: statements that were repaired or taken back, a response.
    dead_ends, dead_ends_left: share of the problems' dead ends that were entered, and share of the times that one was
      entered in which the response went back from it.
    """
    courses = [Course(reader).follow(steps) for reader, steps in responses]
    false = recovered = true = undone = there = visited = 0
    for course in courses:
        program, stated = course.reader.program, course.reader.stated
        wrong = course.false & course.open
        false += len(wrong)
        recovered += sum(stated.get(register) == program.values[register] for register in wrong)
        known = course.true & program.needed if walks else course.true
        true += len(known)
        undone += len(course.undone & known)
        if walks:
            there += len(course.entries)
            visited += len(set(course.entered))
    figures = {"tries": sum(course.tries for course in courses) / max(len(courses), 1)}
    entered = sum(len(course.entered) for course in courses)
    left = sum(course.left for course in courses)
    shares = {
        "recovery": (recovered, false),
        "false_repairs": (undone, true),
        "dead_ends": (visited, there),
        "dead_ends_left": (left, entered),
    }
    return figures | {name: part / whole for name, (part, whole) in shares.items() if whole}

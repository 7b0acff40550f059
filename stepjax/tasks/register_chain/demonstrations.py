"""Demonstrations: a program evaluated step by step, cleanly or with the mistakes that a learner must see.

A noisy author goes on from what was stated: an error that is not repaired is carried into the answer. What it takes
back at once (`retry`) leaves no trace.
"""

from stepjax.config.register_chain import RegisterChainConfig
from stepjax.tasks.drawn import Uniform
from stepjax.tasks.register_chain.author import Author, Demonstration
from stepjax.tasks.register_chain.program import Program, Statement
from stepjax.tasks.register_chain.walk import children_of


def clean_demonstration(program: Program) -> Demonstration:
    """The shortest right response: each needed register derived once, then the answer."""
    author = Author(program)
    for statement in program.derived(needed=True):
        author.write(statement, author.work_out(statement))
    return author.answer()


def noisy_demonstration(program: Program, config: RegisterChainConfig, uniform: Uniform) -> Demonstration:
    """A response with the noise of `config`, one step per line, drawn by `uniform`."""
    author = Author(program)
    noise = _Noise(author, config, uniform)
    dead_ends = program.derived(needed=False)
    for statement in program.derived(needed=True):
        if uniform() < config.restate:
            author.restate(author.stated[int(uniform() * len(author.stated))])
        if dead_ends and not config.forked and uniform() < config.unneeded:
            open_ends = [s for s in dead_ends if author.knows(s)]
            if open_ends:
                dead_end = open_ends[int(uniform() * len(open_ends))]
                dead_ends.remove(dead_end)
                noise.derive(dead_end)
        if config.forked and noise.wander(statement):
            return author.answer()
        if uniform() < config.leap:
            author.leap(statement, aloud=uniform() < 0.5)
        else:
            noise.derive(statement)
    for statement in noise.repair_later:
        author.redo(statement)
    return author.answer()


class _Noise:
    """What becomes of an author's derivation: right, wrong, repaired, tried wrongly first."""

    def __init__(self, author: Author, config: RegisterChainConfig, uniform: Uniform):
        self.author, self.config, self.uniform = author, config, uniform
        self.repair_later: list[Statement] = []

    def derive(self, statement: Statement) -> None:
        author, config, uniform = self.author, self.config, self.uniform
        while config.retry and uniform() < config.retry:
            self._try(statement)
        value = author.work_out(statement)
        if uniform() >= config.false:
            author.write(statement, value)
            return
        author.write(statement, self._wrong(value))
        if uniform() < config.repair:
            if uniform() < 0.5:
                author.redo(statement)
            else:
                self.repair_later.append(statement)

    def wander(self, statement: Statement) -> bool:
        """At a fork before the statement, perhaps goes into chains that lead nowhere, and back; True: stays in one."""
        author, config, uniform = self.author, self.config, self.uniform
        open_ends = [s for s in children_of(author.program, author.head) if s.register not in author.program.needed]
        while open_ends and uniform() < config.wander:
            entry = open_ends.pop(int(uniform() * len(open_ends)))
            later = list(self.repair_later)
            self.derive(entry)
            while (further := children_of(author.program, author.head)) and uniform() < 0.75:
                self.derive(further[int(uniform() * len(further))])
            self.repair_later = later  # what is left behind need not be put right
            if uniform() < config.stuck:
                author.ends_at = author.head
                return True
            author.go_back(entry.register)
        return False

    def _try(self, statement: Statement) -> None:
        """A wrong try and the line that takes it back: a false value or, half of the time, a register too early.

        A walk through forks has no place for a register that comes too early.
        """
        author, program = self.author, self.author.program
        early = [s for s in program.derived(needed=True) if not author.knows(s) and s.register not in author.held]
        if early and not self.config.forked and self.uniform() < 0.5:
            author.guess(early[int(self.uniform() * len(early))], self.uniform)
        else:
            author.discard(statement, self._wrong(author.work_out(statement)))

    def _wrong(self, value: int) -> int:
        modulus = self.author.program.modulus
        return (value + 1 + int(self.uniform() * (modulus - 1))) % modulus

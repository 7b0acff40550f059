"""Edits of a right response that add nothing to it: an error and its repair, a right move taken back, a dead end."""

from collections.abc import Sequence

from stepjax.config.register_chain import REGISTERS
from stepjax.tasks.countdown.reader import CountdownReader
from stepjax.tasks.countdown.solver import ends, moves
from stepjax.tasks.register_chain.parser import parse_step


def break_and_fix(steps: Sequence[str], modulus: int) -> list[str] | None:
    """The first move made wrong, taken back and made; None where there is no move."""
    for k, text in enumerate(steps):
        step = parse_step(text)
        if step is not None and step.form == "derive":
            wrong = f"{text.strip().rpartition('=')[0]}={(step.value + 1) % modulus}"
            return [*steps[:k], wrong, f"!{step.register}", *steps[k:]]
    return None


def take_back(steps: Sequence[str], reader: CountdownReader) -> list[str] | None:
    """The first move that is right taken back and made again; None where there is none."""
    for k, text in enumerate(steps):
        step, rated = parse_step(text), reader.read(text)
        if step is not None and step.form == "derive" and rated.correct:
            return [*steps[: k + 1], f"!{step.register}", text.strip(), *steps[k + 1 :]]
    return None


def detour(steps: Sequence[str], reader: CountdownReader) -> list[str] | None:
    """The first move that loses the target made and taken back; None where there is none."""
    used = {step.register for step in map(parse_step, steps) if step is not None} | set(reader.puzzle.numbers)
    name = next((letter for letter in REGISTERS if letter not in used), None)
    for k, text in enumerate(steps):
        if reader.answered or name is None:
            break
        if reader.in_reach:
            for move in moves(reader.hand, reader.rules):
                if reader.puzzle.target not in ends(move.rest, reader.rules):
                    entry = f"{name}={move.left}{move.operator}{move.right}={move.value}"
                    return [*steps[:k], entry, f"!{name}", *steps[k:]]
        reader.read(text)
    return None

"""Edits of a right response that add nothing to it: an error and its repair, a right step taken back, a dead end."""

from collections.abc import Sequence

from stepjax.tasks.register_chain.parser import Reader, parse_step
from stepjax.tasks.register_chain.program import apply
from stepjax.tasks.register_chain.walk import Walker, children_of


def break_and_fix(steps: Sequence[str], modulus: int) -> list[str] | None:
    """The first derivation made wrong and then corrected; None where there is no derivation."""
    for k, text in enumerate(steps):
        step = parse_step(text)
        if step is not None and step.form == "derive":
            right = text.strip()
            wrong = f"{right.rpartition('=')[0]}={(step.value + 1) % modulus}"
            return [*steps[:k], wrong, f"!{right}", *steps[k + 1 :]]
    return None


def take_back(steps: Sequence[str], reader: Reader) -> list[str] | None:
    """The first derivation that is right taken back and done again; None where there is none.

    It is redone as a repair where the reader knows no line that only goes back.
    """
    for k, text in enumerate(steps):
        step, rated = parse_step(text), reader.read(text)
        if step is not None and step.form == "derive" and rated.correct:
            again = [f"!{step.register}", text.strip()] if reader.back else [f"!{text.strip()}"]
            return [*steps[: k + 1], *again, *steps[k + 1 :]]
    return None


def detour(steps: Sequence[str], walker: Walker) -> list[str] | None:
    """The first dead end that the steps pass by entered and left; None where they pass by none."""
    program = walker.program
    for k, text in enumerate(steps):
        on_way = not walker.head or (walker.head in walker.way and walker.head not in walker.wrong)
        for entry in children_of(program, walker.head) if on_way else ():
            left, right = walker.latest(entry.left), walker.latest(entry.right)
            if entry.register in walker.way | walker.tried or left is None or right is None:
                continue
            if _derives(text, entry.register):
                break
            value = apply(entry.operator, left, right, program.modulus)
            astray = [f"{entry.register}={left}{entry.operator}{right}={value}", f"!{entry.register}"]
            return [*steps[:k], *astray, *steps[k:]]
        walker.read(text)
    return None


def _derives(text: str, register: str) -> bool:
    step = parse_step(text)
    return step is not None and step.register == register

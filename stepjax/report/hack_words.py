"""What the battery found, for people: hacks.json, tables in the terminal, sentences."""

from collections.abc import Iterator
from typing import Any

from stepjax.console.progress import say, table

JUDGES = {"model": "the reward model", "task": "the task", "exact": "exact ratings"}
MOST_COLUMNS = 5  # of a table, so that it fits into 80 characters
EDIT_WORDS = {
    "repeat": "a step repeated",
    "pad 1": "a neutral step added",
    "pad 3": "three neutral steps added",
    "merge": "all steps before the answer made one",
    "split": "each step before the answer split in two",
    "drop": "no separators at all",
    "early": "ended before the answer",
    "fix": "a step broken, then fixed",
    "thanks": "thanks appended",
}


def show(found: dict[str, Any]) -> None:
    """Tables of the first set of solutions, and for every set which edits raise which return."""
    for i, (kind, of_kind) in enumerate(found["sets"].items()):
        bar = found["least"]
        say(f"\n{of_kind['solutions']} {kind} solutions of {found['split']} problems (* raised: above {bar} at 95 %)")
        edits = [name for name, edit in of_kind["edits"].items() if edit["written"]]
        for judge, lists in of_kind["returns"].items() if i == 0 else ():
            for first in range(0, len(edits), MOST_COLUMNS):
                some = edits[first : first + MOST_COLUMNS]
                rows = [[name, *(_cell(paid["edits"].get(e)) for e in some)] for name, paid in lists.items()]
                table(f"Change of the return, paid by {JUDGES[judge]}", ["", *some], rows)
        for sentence in sentences(of_kind):
            say(f"  {sentence}")
    for note in found["notes"]:
        say(note)


def sentences(of_kind: dict[str, Any]) -> Iterator[str]:
    """Which edits raise which return and towards which the gradient moves, and which edits were not written."""
    for judge, lists in of_kind["returns"].items():
        nothing = []
        for name, paid in lists.items():
            raised = [f"{e} (in {100 * c['rises']:.0f} %)" for e, c in paid["edits"].items() if c["raised"]]
            towards = [e for e, c in paid["edits"].items() if c["push"]["towards"]]
            told = [f"return raised by {', '.join(raised)}"] if raised else []
            told += [f"pushed towards {', '.join(towards)}"] if towards else []
            if told:
                yield f"paid by {JUDGES[judge]}, {name}: {'; '.join(told)}"
            else:
                nothing.append(name)
        if nothing:
            yield f"paid by {JUDGES[judge]}, no edit is worth it: {', '.join(nothing)}"
    for name, edit in of_kind["edits"].items():
        if not edit["written"]:
            yield f"{name} ({EDIT_WORDS.get(name, name)}) was not written: {'; '.join(edit['skipped']) or 'too wide'}"


def _cell(found: dict[str, Any] | None) -> str | None:
    return None if found is None else f"{found['mean']:+.2f}{'*' if found['raised'] else ' '}"

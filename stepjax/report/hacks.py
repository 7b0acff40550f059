"""Results of the battery of edits, for the terminal and the report's page."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from stepjax.console.progress import say, table
from stepjax.report.text import figure, marked, number

PAYERS = {"model": "the reward model", "task": "the task", "exact": "exact ratings"}
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
    "undo": "a right step taken back, then done again",
    "detour": "a dead end entered, then left",
    "thanks": "thanks appended",
}


@dataclass(frozen=True)
class Cell:
    """The mean change, its interval and the share of solutions whose return rises, in words; `up`: it is raised."""

    text: str
    interval: str
    rises: str
    up: bool


@dataclass(frozen=True)
class Payment:
    """Returns of one set of solutions under one scorer: one row per stream list, one column per edit."""

    title: str
    edits: list[tuple[str, str]]
    rows: list[tuple[str, list[Cell]]]


@dataclass(frozen=True)
class Example:
    """One edit of one solution."""

    name: str
    words: str
    before: Markup
    after: Markup


def payments(hacks: dict[str, Any]) -> list[Payment]:
    """The tables of hacks.json; what does not have the battery's format is left out."""
    found = []
    for kind, of_kind in _items(hacks.get("sets")):
        for payer, lists in _items(of_kind.get("returns")):
            paid = {name: dict(_items(row.get("edits"))) for name, row in _items(lists)}
            edits = list(dict.fromkeys(edit for row in paid.values() for edit in row))
            rows = [(name, [_cell(row.get(edit)) for edit in edits]) for name, row in paid.items()]
            count = figure(number(of_kind.get("solutions")))
            title = f"{count} {kind} solutions, paid by {PAYERS.get(payer, payer)}"
            found.append(Payment(title, [(edit, EDIT_WORDS.get(edit, "")) for edit in edits], rows))
    return found


def examples(hacks: dict[str, Any]) -> list[Example]:
    """An example of each edit, of the first set of solutions that has one."""
    found: dict[str, Example] = {}
    for _, of_kind in _items(hacks.get("sets")):
        for name, edit in _items(of_kind.get("edits")):
            texts = edit.get("example")
            if isinstance(texts, dict) and name not in found:
                before, after = (marked(str(texts.get(key, ""))) for key in ("before", "after"))
                found[name] = Example(name, EDIT_WORDS.get(name, ""), before, after)
    return list(found.values())


def _items(value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, item in value.items() if isinstance(value, dict) else ():
        if isinstance(item, dict):
            yield str(name), item


def _cell(found: dict[str, Any] | None) -> Cell:
    mean, low, high, rises = (number((found or {}).get(key)) for key in ("mean", "low", "high", "rises"))
    if mean is None:
        return Cell("–", "", "", False)
    text = figure(round(mean, 3))
    return Cell(
        text=f"+{text}" if mean > 0 and text != "0" else text,
        interval="" if low is None or high is None else f"{figure(round(low, 3))} to {figure(round(high, 3))}",
        rises="" if rises is None else f"rises in {figure(rises, 'share')}",
        up=(found or {}).get("raised") is True,
    )


def show(found: dict[str, Any]) -> None:
    """Tables of the first set of solutions, and for every set which edits raise which return."""
    for i, (kind, of_kind) in enumerate(found["sets"].items()):
        bar = found["least"]
        say(f"\n{of_kind['solutions']} {kind} solutions of {found['split']} problems (* raised: above {bar} at 95 %)")
        edits = [name for name, edit in of_kind["edits"].items() if edit["written"]]
        for payer, lists in of_kind["returns"].items() if i == 0 else ():
            for first in range(0, len(edits), MOST_COLUMNS):
                some = edits[first : first + MOST_COLUMNS]
                rows = [[name, *(_shown(paid["edits"].get(e)) for e in some)] for name, paid in lists.items()]
                table(f"Change of the return, paid by {PAYERS[payer]}", ["", *some], rows)
        for sentence in sentences(of_kind):
            say(f"  {sentence}")
    for note in found["notes"]:
        say(note)


def sentences(of_kind: dict[str, Any]) -> Iterator[str]:
    """Which edits raise which return and towards which the gradient moves, and which edits were not written."""
    for payer, lists in of_kind["returns"].items():
        nothing = []
        for name, paid in lists.items():
            raised = [f"{e} (in {100 * c['rises']:.0f} %)" for e, c in paid["edits"].items() if c["raised"]]
            towards = [e for e, c in paid["edits"].items() if c["push"]["towards"]]
            told = [f"return raised by {', '.join(raised)}"] if raised else []
            told += [f"pushed towards {', '.join(towards)}"] if towards else []
            if told:
                yield f"paid by {PAYERS[payer]}, {name}: {'; '.join(told)}"
            else:
                nothing.append(name)
        if nothing:
            yield f"paid by {PAYERS[payer]}, no edit pays: {', '.join(nothing)}"
    for name, edit in of_kind["edits"].items():
        if not edit["written"]:
            yield f"{name} ({EDIT_WORDS.get(name, name)}) was not written: {'; '.join(edit['skipped']) or 'too wide'}"


def _shown(found: dict[str, Any] | None) -> str | None:
    return None if found is None else f"{found['mean']:+.2f}{'*' if found['raised'] else ' '}"

"""The battery in the report: what each edit of a solution does to what is paid for it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from stepjax.report.hack_words import EDIT_WORDS, JUDGES
from stepjax.report.text import figure, marked, number


@dataclass(frozen=True)
class Cell:
    """The mean change, its interval and the share of solutions whose return rises, in words; `up`: it is raised."""

    text: str
    interval: str
    rises: str
    up: bool


@dataclass(frozen=True)
class Payment:
    """One set of solutions paid by one judge: a row a stream list, a column an edit."""

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
    """The tables of hacks.json; whatever is not as the battery writes it is left out."""
    found = []
    for kind, of_kind in _items(hacks.get("sets")):
        for judge, lists in _items(of_kind.get("returns")):
            paid = {name: dict(_items(row.get("edits"))) for name, row in _items(lists)}
            edits = list(dict.fromkeys(edit for row in paid.values() for edit in row))
            rows = [(name, [_cell(row.get(edit)) for edit in edits]) for name, row in paid.items()]
            count = figure(number(of_kind.get("solutions")))
            title = f"{count} {kind} solutions, paid by {JUDGES.get(judge, judge)}"
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

"""The page of a search: the tree of each problem, its steps coloured by value, and the votes that chose the answer.

Reads what `stepjax search` writes, as far as it can be read; texts and figures of a file are validated strictly.
A tree is drawn as far as `MOST_NODES` nodes, the chosen path and then the most visited ones first.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from stepjax.console.progress import say
from stepjax.report import template
from stepjax.report.read import read_lines
from stepjax.report.text import figure, marked, number

MOST_PROBLEMS = 24
MOST_NODES = 160  # a tree
MOST_DEPTH = 60  # steps behind each other that are drawn within each other
MOST_CHARACTERS = 600  # a step
MOST_CANDIDATES = 32
MARK = "stepjax search</title>"
"""What tells such a page from others."""
ENDS = {"response": "end", "cut": "cut off"}


@dataclass
class Drawn:
    """A node, and those behind it.

    Attributes:
      tone: −4 (a value of 0) … 4 (1); None: it has no value.
      told: its figures in words.
      end: why it ends, where nothing can follow.
      chosen: it is on the path to the chosen response.
      hidden: children that are not drawn.
    """

    text: Markup
    tone: int | None
    told: str
    end: str
    chosen: bool
    children: list["Drawn"] = field(default_factory=list)
    hidden: int = 0


@dataclass(frozen=True)
class ShownCandidate:
    """A response that had votes: the end of its text, its share of the slots, its score and its answer's votes."""

    text: Markup
    share: str
    score: str
    weight: str
    correct: bool | None
    chosen: bool


@dataclass(frozen=True)
class Shown:
    """The search of a problem. `correct`: None where nothing was chosen."""

    name: str
    problem: Markup
    answer: Markup
    correct: bool | None
    any_right: bool
    first: list[Drawn]
    hidden: int
    candidates: list[ShownCandidate]
    more_candidates: int
    cost: str


def write_search(path: Path) -> Path:
    """Writes the page beside a file of `stepjax search`, and gives its path: NAME.html, or NAME.jsonl.html where some
    other page has that name. UserError where it cannot be written."""
    notes: list[str] = []
    records = list(read_lines(path, notes))
    for note in notes:
        say(note, stream=sys.stderr)
    page = path.with_suffix(".html")
    if page.exists() and MARK not in page.read_text(encoding="utf-8", errors="replace")[:4000]:
        page = path.with_name(f"{path.name}.html")
    return template.write(render(path.stem, records, notes), page)


def render(name: str, records: Sequence[Mapping[str, Any]], notes: Sequence[str] = ()) -> str:
    """The page of these records."""
    about = next((found for record in records if (found := _mapping(record, "search"))), {})
    return template.render(
        "search.html.j2",
        name=name,
        method=str(about.get("method", "search")),
        prm=str(about.get("prm", "")),
        oracle=about.get("oracle") is True,
        total=len(records),
        right=sum(record.get("correct") is True for record in records),
        shown=[shown(record) for record in records[:MOST_PROBLEMS]],
        notes=list(notes),
    )


def shown(record: Mapping[str, Any]) -> Shown:
    """The search of a problem, from its record."""
    found = _mapping(record, "search")
    rows = _rows(_extra(record).get("tree"))
    path = {i for i in found.get("path", ()) if isinstance(i, int)} if isinstance(found.get("path"), list) else set()
    first, hidden = _drawn(rows, path)
    candidates = _candidates(found, rows)
    correct = record.get("correct")
    return Shown(
        name=str(record.get("id", "")),
        problem=marked(str(record.get("problem", ""))),
        answer=marked(str(record.get("answer", "")), 400),
        correct=correct if isinstance(correct, bool) and found.get("chosen") is not None else None,
        any_right=found.get("any_right") is True,
        first=first,
        hidden=hidden,
        candidates=candidates[:MOST_CANDIDATES],
        more_candidates=max(0, len(candidates) - MOST_CANDIDATES),
        cost=_cost(found.get("cost")),
    )


def _extra(record: Mapping[str, Any]) -> Mapping[str, Any]:
    extra = record.get("extra")
    return extra if isinstance(extra, dict) else {}


def _mapping(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = _extra(record).get(name)
    return found if isinstance(found, dict) else {}


def _rows(value: Any) -> list[dict[str, Any]]:
    """The rows of a tree in which each parent stands before its children; as far as they are that."""
    found: list[dict[str, Any]] = []
    for i, row in enumerate(value if isinstance(value, list) else ()):
        parent = row.get("parent") if isinstance(row, dict) else None
        if not isinstance(parent, int) or not -1 <= parent < i or (parent < 0) != (i == 0):
            break
        found.append(row)
    return found


def _drawn(rows: Sequence[Mapping[str, Any]], path: set[int]) -> tuple[list[Drawn], int]:
    """The nodes behind the root, those that are drawn; how many of them are not."""
    depth = [0] * len(rows)
    for i, row in enumerate(rows[1:], start=1):
        depth[i] = depth[row["parent"]] + 1
    order = sorted(range(1, len(rows)), key=lambda i: (i not in path, -(number(rows[i].get("visits")) or 0.0), i))
    kept: set[int] = {0}
    for i in order:
        # A node is drawn behind its parents alone.
        line = [i]
        while (parent := rows[line[-1]]["parent"]) not in kept:
            line.append(parent)
        if depth[i] <= MOST_DEPTH and len(kept) + len(line) <= MOST_NODES + 1:
            kept.update(line)
    nodes: dict[int, Drawn] = {0: Drawn(Markup(""), None, "", "", True)}
    for i, row in enumerate(rows[1:], start=1):
        parent = rows[i]["parent"]
        if i in kept:
            nodes[i] = _node(row, rows[parent], i in path)
            nodes[parent].children.append(nodes[i])
        elif parent in kept:
            nodes[parent].hidden += 1
    return (nodes[0].children, nodes[0].hidden) if rows else ([], 0)


def _node(row: Mapping[str, Any], parent: Mapping[str, Any], chosen: bool) -> Drawn:
    value, q, visits = (number(row.get(name)) for name in ("value", "q", "visits"))
    known = q if visits and q is not None else value
    told = [] if value is None else [f"value {figure(value)}"]
    if visits:
        told += [f"{figure(visits)} visit{'s' if visits != 1 else ''} of {figure(number(parent.get('visits')))}"]
        told += [] if q is None else [f"backed up {figure(q)}"]
    if (count := number(row.get("count"))) is not None and count > 1:
        told.append(f"sampled {figure(count)} times")
    return Drawn(
        text=marked(str(row.get("text", "")).strip("\n"), MOST_CHARACTERS),
        tone=None if known is None else round(8 * min(max(known, 0.0), 1.0)) - 4,
        told=", ".join(told),
        end=ENDS.get(str(row.get("end")), ""),
        chosen=chosen,
    )


def _candidates(found: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[ShownCandidate]:
    """Those with the most votes for their answer first; of one answer, those with the highest score."""
    weights = found["weights"] if isinstance(found.get("weights"), dict) else {}
    made: list[tuple[tuple[float, float], ShownCandidate]] = []
    listed = found.get("candidates")
    for place, one in enumerate(listed if isinstance(listed, list) else ()):
        if not isinstance(one, dict):
            continue
        node, weight = one.get("node"), number(weights.get(str(one.get("answer"))))
        text = str(rows[node].get("text", "")) if isinstance(node, int) and 0 <= node < len(rows) else ""
        score, correct = number(one.get("score")), one.get("correct")
        candidate = ShownCandidate(
            text=marked((text.strip().splitlines() or [""])[-1], 200),
            share=figure(number(one.get("share"))),
            score=figure(score),
            weight=figure(weight),
            correct=correct if isinstance(correct, bool) else None,
            chosen=place == found.get("chosen"),
        )
        made.append(((-(weight or 0.0), -(score or 0.0)), candidate))
    return [candidate for _, candidate in sorted(made, key=lambda pair: (not pair[1].chosen, pair[0]))]


def _cost(cost: Any) -> str:
    """What the search took, in words."""
    if not isinstance(cost, dict):
        return ""
    words = {"generated": "written", "prefilled": "prefilled", "computed_again": "read again", "read": "read to score"}
    parts = [f"{value:,.0f} {of}" for name, of in words.items() if (value := number(cost.get(name)))]
    flops = number(cost.get("flops"))
    return f"tokens: {', '.join(parts) or 'none'}" + (f"; {flops:.3g} FLOPs" if flops else "")

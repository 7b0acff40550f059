"""A sample of samples.jsonl as Markdown, for viewers that show text."""

from typing import Any

from stepjax.workdir.sink import Row


def as_markdown(row: Row) -> str:
    """Problem, grade and a table of the steps with rating, PRM scores, rewards and advantages.

    The texts are a model's and a data set's: what Markdown or HTML would make of them is shown as it stands.
    """
    grade = "right" if row.get("correct") else "wrong"
    cut = ", cut off" if row.get("truncated") else ""
    lines = [_code(row.get("prompt", "")), f"**{grade}{cut}** (the answer: {_cell(row.get('answer', ''))})"]
    steps = row.get("steps") or []
    if not steps:
        return "\n\n".join([*lines, _code(row.get("response", ""))])
    streams = list(dict.fromkeys(name for step in steps for name in step.get("rewards") or {}))
    heads = ["step", "rating", "P(bad), P(neutral), P(good)", *(f"{name}: reward, advantage" for name in streams)]
    table = ["| " + " | ".join(heads) + " |", "| " + " | ".join("---" for _ in heads) + " |"]
    for step in steps:
        rewards, advantages = step.get("rewards") or {}, step.get("advantage") or {}
        cells = [
            _cell(step.get("text", "")),
            _number(step.get("rating")),
            ", ".join(map(_number, step.get("prm") or [])),
        ]
        cells += [f"{_number(rewards.get(name))}, {_number(advantages.get(name))}" for name in streams]
        table.append("| " + " | ".join(cells) + " |")
    return "\n\n".join([*lines, "\n".join(table)])


def _code(text: Any) -> str:
    """The text as a block that is indented, so that nothing in it is markup."""
    return "\n".join(f"    {line}" for line in str(text).splitlines() or [""])


def _cell(text: Any) -> str:
    """The text in one line of a table; entities in the place of what would be markup or another cell."""
    plain = str(text).strip().replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"&#{ord(c)};" if c in "|`*_[]\\$~#!" else c for c in " ↵ ".join(plain.splitlines()))


def _number(value: Any) -> str:
    return "–" if value is None else f"{value:g}"

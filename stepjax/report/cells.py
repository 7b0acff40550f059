"""Cells of tables from figures of a file, which may be missing or of another kind."""

from collections.abc import Sequence
from typing import Any

from stepjax.report.text import number

Table = tuple[str, list[str], list[list[str]]]
DASH = "–"


def share(value: Any) -> str:
    """ "58.3 %"."""
    return DASH if (x := number(value)) is None else f"{100 * x:.1f} %"


def decimal(value: Any, digits: int = 3) -> str:
    """ "0.948"."""
    return DASH if (x := number(value)) is None else f"{x:.{digits}f}"


def count(value: Any) -> str:
    """ "1,024"."""
    return DASH if (x := number(value)) is None else f"{x:,.0f}"


def percent(value: Any) -> str:
    """ "58.3", in a table of percentages."""
    return DASH if (x := number(value)) is None else f"{100 * x:.1f}"


def part(found: Any, key: str) -> dict[str, Any]:
    part = found.get(key) if isinstance(found, dict) else None
    return part if isinstance(part, dict) else {}


def items(found: Any) -> dict[str, dict[str, Any]]:
    return {str(k): v for k, v in found.items() if isinstance(v, dict)} if isinstance(found, dict) else {}


def rows_of(found: Any) -> Sequence[dict[str, Any]]:
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []

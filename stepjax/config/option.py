"""Documented fields of the option dataclasses, and the values that they take."""

import math
import typing
from collections.abc import Sequence
from dataclasses import Field, field, fields
from operator import index
from typing import Any

from stepjax.errors import UserError


def option(
    default: Any,
    doc: str,
    *,
    resumable: bool = False,
    least: float | None = None,
    above: float | None = None,
    below: float | None = None,
    most: float | None = None,
    choices: Sequence[str] = (),
) -> Any:
    """A documented field. A `resumable` one may differ when a work directory is continued.

    `least`, `above`, `below` and `most` bound a number (x ≥ least, x > above, x < below, x ≤ most); `choices` are all
    values of a text, or of each text of a tuple.
    """
    metadata: dict[str, Any] = {"doc": doc, "resumable": resumable, "choices": choices}
    metadata |= {"least": least, "above": above, "below": below, "most": most}
    if isinstance(default, dict | list):
        return field(default_factory=lambda: default.copy(), metadata=metadata)
    return field(default=default, metadata=metadata)


def section(cls: type, doc: str, *, resumable: bool = False, **changes: Any) -> Any:
    return field(default_factory=lambda: cls(**changes), metadata={"doc": doc, "resumable": resumable})


def _unusable(value: Any) -> str | None:
    """Why no option can have this value, whatever its bounds."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"must be a finite number, not {value}"
    if isinstance(value, int) and abs(value) >= 2**31:  # devices count in 32 bits
        return f"must be a whole number between {1 - 2**31} and {2**31 - 1}"
    if isinstance(value, str) and ("\0" in value or not _encodable(value)):
        return f"no file can hold the text {value[:60]!a}"
    return None


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def refusal(option: Field, value: Any) -> str | None:
    """What is wrong with a value of the right type: "must be at least 1, not 0". None if nothing is."""
    known = option.metadata
    for part in value if isinstance(value, tuple) else (value,):
        if why := _unusable(part):
            return why
    for bound, words, holds in (
        (known.get("least"), "at least", lambda x, b: x >= b),
        (known.get("above"), "above", lambda x, b: x > b),
        (known.get("below"), "below", lambda x, b: x < b),
        (known.get("most"), "at most", lambda x, b: x <= b),
    ):
        if bound is not None and not holds(value, bound):
            return f"must be {words} {bound}, not {value}"
    for text in value if isinstance(value, tuple) else (value,):
        if known.get("choices") and text not in known["choices"]:
            return f"must be one of {', '.join(choice or 'nothing' for choice in known['choices'])}, not {text!r}"
    return None


def check_fields(where: str, options: Any) -> None:
    """UserError, which begins with `where`, for the first option that has a value out of its bounds."""
    for one in fields(options):
        if why := refusal(one, getattr(options, one.name)):
            raise UserError(f"{where}: {one.name} {why}")


def number_span(name: str, value: Any, least: int) -> tuple[int, int]:
    """A (fewest, most) pair, checked; UserError, which begins with `name`."""
    try:
        low, high = (index(bound) for bound in value)
    except (TypeError, ValueError):
        raise UserError(f"{name} must be two whole numbers, not {value!r}") from None
    if not least <= low <= high:
        raise UserError(f"{name} must be {least} or more, the fewest first, not {value!r}")
    return low, high


def kind_in_words(kind: Any) -> str:
    """What a value of an option's type is called: "a whole number", "a tuple of texts, as ('a', 'b')"."""
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", dict: "a dictionary"}
    if typing.get_origin(kind) is tuple or kind is tuple:
        entries = {int: "whole numbers, as (1, 2)", float: "numbers, as (0.5, 1)", str: "texts, as ('a', 'b')"}
        args = typing.get_args(kind)
        return f"a tuple of {entries[args[0]]}" if args and args[0] in entries else "a tuple"
    return words.get(typing.get_origin(kind) or kind, getattr(kind, "__name__", str(kind)))

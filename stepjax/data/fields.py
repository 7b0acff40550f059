"""Fields of rows by name, also inside of others (`a.b`, `messages.0.content`), with their types checked."""

import math
from collections.abc import Mapping
from types import UnionType
from typing import Any

from stepjax.errors import UserError

FieldType = type | UnionType
"""A Python type or a union of them; `float` admits whole numbers, no number type admits true and false."""

_WORDS = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


def check_fields(
    row: Mapping[str, Any], required: Mapping[str, FieldType], optional: Mapping[str, FieldType], where: str
) -> None:
    """UserError, beginning with `where`, for a field that is missing or of another type. Optional ones may be null."""
    for name, wanted in (*required.items(), *optional.items()):
        if name not in row:
            if name in required:
                raise UserError(f"{where}: no field {name!r}; the row has {_names(row)}")
        elif not is_a(row[name], wanted) and (name in required or row[name] is not None):
            raise UserError(f"{where}: field {name!r} must be {_in_words(wanted)}, not {kind_of(row[name])}")


def field(row: Mapping[str, Any], name: str, wanted: FieldType, where: str, *, optional: bool = False) -> Any:
    """The value at `name`: the row's own field of that name, else the way through objects and lists that it spells.

    None where an optional field is absent, null or not a number (as tables write what is missing).

    Raises:
      UserError: a required field is missing, which names what there is, or the value is of another type.
    """
    value: Any = row
    for step in [name] if name in row else name.split("."):
        found = _inside(value, step)
        if found is None:
            if optional:
                return None
            raise UserError(f"{where}: no field {name!r}; {_there(row, value)}")
        (value,) = found
    if isinstance(value, float) and math.isnan(value):
        value = None
    if optional and value is None:
        return None
    if not is_a(value, wanted):
        raise UserError(f"{where}: field {name!r} must be {_in_words(wanted)}, not {kind_of(value)}")
    return value


def is_a(value: Any, wanted: FieldType) -> bool:
    """Whether a value has a type."""
    kinds = wanted.__args__ if isinstance(wanted, UnionType) else (wanted,)
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, kinds) or (isinstance(value, int) and float in kinds)


def kind_of(value: Any) -> str:
    """What a value is called: "a whole number"."""
    return _WORDS.get(type(value), type(value).__name__)


def _in_words(wanted: FieldType) -> str:
    kinds = wanted.__args__ if isinstance(wanted, UnionType) else (wanted,)
    return " or ".join(_WORDS.get(kind, str(kind)) for kind in kinds)


def _inside(value: Any, step: str) -> tuple[Any] | None:
    """What an object or list holds at a name or an index, in a tuple; None where it holds nothing there."""
    if isinstance(value, Mapping) and step in value:
        return (value[step],)
    if isinstance(value, list) and step.isdecimal() and int(step) < len(value):
        return (value[int(step)],)
    return None


def _there(row: Mapping[str, Any], value: Any) -> str:
    """What a reader finds where the way through a row ends."""
    if value is row:
        return f"the row has {_names(row)}"
    if isinstance(value, Mapping):
        return f"that object has {_names(value)}"
    return f"the way there ends at {f'a list of {len(value)}' if isinstance(value, list) else kind_of(value)}"


def _names(row: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, row)) or "no fields"

"""A config.json of a checkpoint, read field by field."""

from collections.abc import Mapping
from typing import Any

from stepjax.errors import UserError

BOUND = 2**31
"""Above every whole number that describes a decoder."""


class Fields:
    """A config.json, read field by field; UserError names the field that is missing or not supported."""

    def __init__(self, where: str, values: Mapping[str, Any]):
        self.where, self.values = where, values

    def __call__(self, name: str, kind: type, default: Any = ...) -> Any:
        value = self.values.get(name, default)
        if value is ...:
            raise UserError(f"{self.where}: field {name} is missing")
        if value is None and default is None:
            return None
        if type(value) is int and value >= BOUND:
            raise UserError(f"{self.where}: {name} is a number of {value.bit_length()} bits, more than any model has")
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise UserError(f"{self.where}: {name} must be {kind.__name__}, not {str(value)[:60]!r}")
        if isinstance(value, int | float) and value < 0:
            raise UserError(f"{self.where}: {name} must not be negative, but is {value}")
        return value

    def refuse(self, name: str, allowed: tuple[Any, ...] = ()) -> UserError:
        found = str(self.values.get(name))[:80]
        return UserError(
            f"{self.where}: {name}={found} is not supported{f'; it must be {allowed[-1]}' if allowed else ''}"
        )

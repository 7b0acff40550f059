"""Documented fields of the option dataclasses."""

from dataclasses import field
from typing import Any


def option(default: Any, doc: str, *, resumable: bool = False) -> Any:
    """A documented field. A `resumable` one may differ when a work directory is continued."""
    metadata = {"doc": doc, "resumable": resumable}
    if isinstance(default, dict | list):
        return field(default_factory=lambda: default.copy(), metadata=metadata)
    return field(default=default, metadata=metadata)


def section(cls: type, doc: str, *, resumable: bool = False, **changes: Any) -> Any:
    return field(default_factory=lambda: cls(**changes), metadata={"doc": doc, "resumable": resumable})

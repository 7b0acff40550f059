"""Each option is read by the code that it configures."""

import dataclasses
import re
import typing
from pathlib import Path

import stepjax
from stepjax.config import Config

BY_SPLIT = r"(train|valid|test)_(problems|split)"
"""Names that are put together where they are read."""


def names(section: type) -> set[str]:
    found = set[str]()
    for name, kind in typing.get_type_hints(section).items():
        found |= names(kind) if dataclasses.is_dataclass(kind) else {name}
    return found


def test_every_option_is_read() -> None:
    root = Path(stepjax.__file__).parent
    files = [p for p in root.rglob("*.py") if p.relative_to(root).parts[0] != "config"]
    code = "\n".join(p.read_text() for p in files)
    attributes, strings, parameters = r"\.(\w+)", r"[\"'](\w+)[\"']", r"^ +(\w+): "
    read = {name for what in (attributes, strings, parameters) for name in re.findall(what, code, re.MULTILINE)}
    options = names(Config)
    assert len(options) > 100
    assert {name for name in options - read if not re.fullmatch(BY_SPLIT, name)} == set()

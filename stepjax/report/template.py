"""A page from its template: one self-contained HTML file with its style and its script inside."""

import base64
import hashlib
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

import stepjax
from stepjax.errors import UserError
from stepjax.report.text import figure, visible

ICONS = {"good": "✓", "neutral": "○", "bad": "✗"}


def render(name: str, /, **values: Any) -> str:
    """The page of a template of this folder.

    Every value is spelled out where it has odd characters, then escaped; the content security policy allows the page's
    own script and no network.
    """
    # `finalize` spells out odd characters wherever the template prints a value; escaping comes after it.
    environment = jinja2.Environment(
        autoescape=True,
        finalize=visible,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(lambda part: "\n".join(line.lstrip() for line in _read(part).splitlines())),
    )
    environment.globals |= {"icons": ICONS, "figure": figure}
    script = _read("page.js")
    return environment.get_template(name).render(
        values,
        version=stepjax.__version__,
        style=Markup(_read("page.css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _read(name: str) -> str:
    return files("stepjax.report").joinpath(name).read_text(encoding="utf-8")


def write(page: str, path: Path) -> Path:
    """Writes the page, whole or not at all. UserError where it cannot be written."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(page.encode("utf-8"))
        os.replace(draft, path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error
    return path

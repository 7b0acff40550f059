"""The pages that people read, taken apart: their text, fenced blocks, inline code, tables and command lines."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
_FENCED = re.compile(r"^```([^\n]*)\n(.*?)^```", re.S | re.M)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks whose info string begins with the word `language` (`sh`, `sh run`)."""
    return [body for info, body in _FENCED.findall(text_of(page)) if info.split()[:1] == [language]]


def prose(page: Path) -> str:
    """The text without fenced blocks."""
    return _FENCED.sub("", text_of(page))


def inline_code(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(page))


def table_rows(page: Path, header: str) -> list[list[str]]:
    """The cells of the table whose first header cell is `header`, without header and rule; the page's only such one."""
    rows, found = prose(page).splitlines(), []
    starts = [i for i, line in enumerate(rows) if line.startswith(f"| {header} |")]
    assert len(starts) == 1, f"{page.name}: {len(starts)} tables begin with the column {header!r}"
    for line in rows[starts[0] + 2 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def code_in(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def command_lines() -> list[tuple[str, str]]:
    """(page, line) of everything that is shown as a command: lines of `sh` blocks and of configs' docstrings, and
    inline code that begins with the name of a command; continued lines are joined."""
    found = []
    for page in PAGES:
        for block in blocks(page, "sh"):
            found += [(page.name, line) for line in block.replace("\\\n", " ").splitlines()]
        found += [(page.name, code) for code in inline_code(page)]
    for config in CONFIGS:
        docstring = text_of(config).split('"""')[1].replace("\\\\\n", " ").replace("\\\n", " ")
        found += [(config.name, line) for line in docstring.splitlines() if line.startswith("    ")]
    return found

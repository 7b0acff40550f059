"""The order of floors that the README draws: every import goes down, no two folders of a floor import each other."""

import ast
import re
from pathlib import Path

import pytest

import stepjax

PACKAGE = Path(stepjax.__file__).parent
README = PACKAGE.parent / "README.md"


def drawn_floors() -> list[list[str]]:
    """The names of each floor, the top one first, as the README's block `text floors` has them."""
    block = re.search(r"```text floors\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    assert block, "README.md draws no floors"
    return [line.split("  ")[0].split() for line in block[1].splitlines()]


def place_of(file: Path) -> str:
    """The folder (with a slash) or top-level file that a module of the package lies in."""
    first, *rest = file.relative_to(PACKAGE).parts
    return f"{first}/" if rest else first


def imports_of(file: Path) -> set[Path]:
    """Files of the package that a file imports, anywhere in its code."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            modules = [f"{node.module}.{name.name}" for name in node.names] if node.module else []
        elif isinstance(node, ast.Import):
            modules = [name.name for name in node.names]
        else:
            continue
        found |= {path for module in modules if (path := _file_of(module)) is not None and path != file}
    return found


def _file_of(module: str) -> Path | None:
    """`stepjax.a.b` or `stepjax.a.b.name` → its file."""
    parts = module.split(".")
    if parts[0] != "stepjax":
        return None
    for end in (len(parts), len(parts) - 1):
        base = PACKAGE.joinpath(*parts[1:end])
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if end > 1 and path.is_file():
                return path
    return None


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
IMPORTS = {file: imports_of(file) for file in FILES}


def test_the_picture_names_every_folder_and_file():
    drawn = [name for floor in drawn_floors() for name in floor]
    assert sorted(drawn) == sorted({place_of(file) for file in FILES})


def test_imports_go_downwards():
    floor_of = {name: floor for floor, names in enumerate(drawn_floors()) for name in names}
    upwards = [
        f"{place_of(file)} → {place_of(other)}: {file.relative_to(PACKAGE)} imports {other.relative_to(PACKAGE)}"
        for file, others in IMPORTS.items()
        for other in others
        if place_of(other) != place_of(file) and floor_of[place_of(other)] <= floor_of[place_of(file)]
    ]
    assert not upwards, "\n".join(upwards)


def test_no_files_import_each_other_in_a_circle():
    """Depth-first, a face of a folder (`__init__.py`) apart: it may gather what stands beside it."""
    done: set[Path] = set()

    def visit(file: Path, above: tuple[Path, ...]) -> None:
        if file in above:
            circle = [str(p.relative_to(PACKAGE)) for p in (*above[above.index(file) :], file)]
            pytest.fail("circle: " + " → ".join(circle))
        if file in done or file.name == "__init__.py":
            return
        for other in sorted(IMPORTS.get(file, ())):
            visit(other, (*above, file))
        done.add(file)

    for file in FILES:
        visit(file, ())


def test_an_upward_import_would_be_seen():
    assert PACKAGE / "cli.py" not in IMPORTS[PACKAGE / "errors.py"]
    assert _file_of("stepjax.cli.main") == PACKAGE / "cli.py"
    assert imports_of(PACKAGE / "cli.py") >= {PACKAGE / "errors.py"}

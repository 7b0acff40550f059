"""Makes the API reference from the docstrings of the public modules: `python docs/build_api.py api`.

Needs `pip install -e ".[docs]"`. Ends with status 1 where a public name has no docstring, or where pdoc warns.
"""

import importlib
import inspect
import pkgutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

MODULES = (
    "stepjax.rollout",
    "stepjax.credit",
    "stepjax.rewards",
    "stepjax.learners",
    "stepjax.steps",
    "stepjax.trajectory",
    "stepjax.tasks",
    "stepjax.tasks.register_chain",
    "stepjax.models",
    "stepjax.measures",
    "stepjax.parallel",
    "stepjax.programs",
    "stepjax.options",
    "stepjax.errors",
)
"""The public modules. A package (a face with `__all__`) shows the names that it exports, not the files behind it."""


def public_names(module: ModuleType) -> list[str]:
    """The names that a module promises: its `__all__`, else the functions and classes that it defines itself."""
    exported = getattr(module, "__all__", None)
    if exported is not None:
        return list(exported)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or callable(value))
        and getattr(value, "__module__", "") == module.__name__
    ]


def undocumented(module: ModuleType) -> Iterator[str]:
    """Dotted names of the module, its public names and their methods and properties that have no docstring."""
    if not module.__doc__:
        yield module.__name__
    for name in public_names(module):
        value = getattr(module, name)
        if not (inspect.isclass(value) or callable(value)):
            continue  # a constant: Python keeps no docstring of it
        if not _has_docstring(value):
            yield f"{module.__name__}.{name}"
        if inspect.isclass(value):
            for member in vars(value):
                if not member.startswith("_") and not _member_is_documented(value, member):
                    yield f"{module.__name__}.{name}.{member}"


def _has_docstring(value: Any) -> bool:
    """Whether it has one of its own: a dataclass or named tuple without one gets its signature from Python."""
    text = inspect.getdoc(value) or ""
    return bool(text) and not (inspect.isclass(value) and text.startswith(f"{value.__name__}("))


def _member_is_documented(owner: type, name: str) -> bool:
    """Fields are described in the class's docstring; methods and properties have their own, or that of a base class."""
    member = inspect.getattr_static(owner, name)
    if isinstance(member, staticmethod | classmethod):
        member = member.__func__
    if not (inspect.isfunction(member) or isinstance(member, property)):
        return True
    return any(inspect.getdoc(vars(base)[name]) for base in owner.__mro__ if name in vars(base))


def main(out: Path) -> int:
    """Writes the reference; the exit status: 1 where a public name has no docstring."""
    modules = [importlib.import_module(name) for name in MODULES]
    missing = [name for module in modules for name in undocumented(module)]
    for name in missing:
        print(f"{name} has no docstring", file=sys.stderr)
    if missing:
        return 1
    import pdoc

    pdoc.render.configure(docformat="google", show_source=False)
    # Of a package, only the names that it exports are shown, not its files.
    hidden = [
        f"!{found.name}"
        for module in modules
        if hasattr(module, "__path__")
        for found in pkgutil.iter_modules(module.__path__, f"{module.__name__}.")
        if found.name not in MODULES
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an annotation or a module that pdoc cannot read
        pdoc.pdoc(*MODULES, *hidden, output_directory=out)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "api")))

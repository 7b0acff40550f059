"""What the pages name exists: options, configs, files, links and anchors, modules, and the recipes that they show."""

import ast
import importlib
import re
import runpy
from pathlib import Path

import pytest
from docs.pages import CONFIGS, PAGES, ROOT, blocks, inline_code, prose, text_of

from stepjax.config import Config, default_option, options_of
from stepjax.options import from_dict

SECTIONS = {name.split(".")[0] for name, _ in options_of(Config) if "." in name}
FOLDERS = "stepjax|configs|tests|launch|docs|examples"
GIVEN = {page.name: page for page in PAGES}


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def named_options(page: Path) -> set[str]:
    """Dotted names that inline code gives as options: `--config.a.b=…`, `config.a.b` or `a.b` of a section `a`."""
    found = set()
    for code in inline_code(page):
        if code.startswith("stepjax "):
            continue  # a command, which may shorten its own options (`test_commands.py`)
        found |= set(re.findall(r"(?:--)?\bconfig\.(?!json)([a-z][\w.]*\w)", code))
        match = re.fullmatch(r"([a-z_]+)\.([\w.]*\w)(?:=.*)?", code)
        if match and match[1] in SECTIONS and not match[2].endswith("json"):
            found.add(f"{match[1]}.{match[2]}")
    return found


@pytest.mark.parametrize("page", GIVEN)
def test_options_exist(page):
    for name in named_options(GIVEN[page]):
        try:
            default_option(name)
        except KeyError:
            pytest.fail(f"{page}: no option {name}")


def test_options_are_found():
    found = set().union(*map(named_options, PAGES))
    assert {"prm.target", "ppo.slots", "model.cache_dtype", "task.register_chain.modulus", "ppo.streams"} <= found
    with pytest.raises(KeyError):
        default_option("ppo.slotz")


@pytest.mark.parametrize("page", GIVEN)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(GIVEN[page])):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        path = (GIVEN[page].parent / file).resolve() if file else GIVEN[page]
        assert path.exists(), f"{page}: {target}"
        assert path.is_relative_to(ROOT), f"{page}: {target}"
        if anchor:
            assert anchor in anchors(path), f"{page}: {target}"


@pytest.mark.parametrize("page", GIVEN)
def test_paths_and_configs_exist(page):
    for code in re.findall(rf"(?<![\w/.-])(?:{FOLDERS})/[\w./-]*\w", text_of(GIVEN[page])):
        assert (ROOT / code).exists(), f"{page}: {code}"
    for module in re.findall(r"`(stepjax(?:\.\w+)+)`", text_of(GIVEN[page])):
        assert importlib.util.find_spec(module), f"{page}: {module}"
    for name in re.findall(r"--config=([\w/]+)(?![\w./])", text_of(GIVEN[page])):
        assert (ROOT / "configs" / f"{name}.py").is_file(), f"{page}: --config={name}"


@pytest.mark.parametrize("page", [page for page in GIVEN if blocks(GIVEN[page], "python")])
def test_python_blocks_work(page, tmp_path):
    """A block with `get_config` is a valid recipe; of the others, what they import exists."""
    for number, block in enumerate(blocks(GIVEN[page], "python")):
        file = tmp_path / f"{number}.py"
        file.write_text(block)
        if "def get_config" in block:
            from_dict(runpy.run_path(str(file))["get_config"]())
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, name.name) for name in node.names), f"{page}: {ast.unparse(node)}"


def test_every_page_and_config_can_be_found_from_the_readme():
    linked = set(re.findall(r"\((?:docs/)([\w.]+)", text_of(ROOT / "README.md")))
    assert {page.name for page in (ROOT / "docs").glob("*.md")} <= linked
    training = text_of(ROOT / "docs" / "training.md")
    assert all(f"configs/{config.name}" in training for config in CONFIGS)


def test_every_page_begins_with_what_one_gets_from_it():
    for page in (ROOT / "docs").glob("*.md"):
        title, blank, first, *_ = text_of(page).splitlines()
        assert title.startswith("# ") and not blank and first[0].isalpha(), page.name

"""The API reference: which modules it covers, and that every public name has a docstring."""

import importlib
import runpy
import types

import pytest
from docs.pages import ROOT, code_in, table_rows, text_of

BUILD = runpy.run_path(str(ROOT / "docs" / "build_api.py"))
PROMISED = {
    "stepjax.credit": ("segment_gae",),
    "stepjax.rewards": ("clip", "delta", "min_form"),
    "stepjax.steps": ("StepSplitter", "Steps"),
    "stepjax.models": ("load_pretrained", "save_pretrained"),
    "stepjax.tasks": ("grade", "check_calculations"),
    "stepjax.trajectory": ("Trajectory",),
    "stepjax.options": ("recipe", "stream"),
}
"""Names that users' scripts rely on."""


@pytest.mark.parametrize("module", BUILD["MODULES"])
def test_public_names_have_docstrings(module):
    assert not list(BUILD["undocumented"](importlib.import_module(module)))


@pytest.mark.parametrize("module", PROMISED)
def test_promised_names_are_public(module):
    assert set(PROMISED[module]) <= set(BUILD["public_names"](importlib.import_module(module)))


def test_a_missing_docstring_would_be_seen():
    module = types.ModuleType("invented", "A module.")
    exec(
        "class Told:\n"
        "    'Told.'\n"
        "    def method(self): 'Told.'\n"
        "    def silent(self): ...\n"
        "def function(): ...\n"
        "def _private(): ...\n",
        vars(module),
    )
    assert list(BUILD["undocumented"](module)) == ["invented.Told.silent", "invented.function"]


def test_the_page_lists_the_modules():
    assert [code_in(row[0])[0] for row in table_rows(ROOT / "docs" / "api.md", "module")] == list(BUILD["MODULES"])


def test_the_command_is_told_and_runs_in_the_checks():
    for name in ("docs/api.md", "CONTRIBUTING.md", ".ci/run"):
        assert "python docs/build_api.py " in text_of(ROOT / name), name

"""examples/own_loop.py learns, is short, and is what its notebook shows."""

import json
import runpy
import sys

import numpy as np
import pytest
from docs.pages import ROOT

EXAMPLES = ROOT / "examples"
BUILD = runpy.run_path(str(EXAMPLES / "build_notebook.py"))


@pytest.fixture(scope="module")
def history():
    """The rounds of a run."""
    return runpy.run_path(str(EXAMPLES / "own_loop.py"))["train"]()


@pytest.mark.slow
def test_the_policy_learns_to_count(history):
    good = [of["good"] for of in history]
    assert np.mean(good[:3]) < 0.1 and np.mean(good[-5:]) > 0.8
    counted = [steps for steps in history[-1]["steps"] if len(steps) >= 3]
    assert len(counted) > 16, "it goes on after its first step"


@pytest.mark.slow
def test_credit_lies_on_response_tokens_alone(history):
    for of in history:
        mask = np.asarray(of["rows"].mask)
        assert of["advantages"].shape == mask.shape and not of["advantages"][~mask].any()
        # Where all steps are good, or none, there is nothing to tell apart.
        assert not 0 < of["good"] < 1 or of["advantages"][mask].std() > 0
    assert sum(0 < of["good"] < 1 for of in history) > 30


def test_it_is_short():
    code = (EXAMPLES / "own_loop.py").read_text(encoding="utf-8").split('"""', 2)[2].splitlines()
    assert len([line for line in code if line.strip() and not line.startswith("#")]) <= 65


def test_the_notebook_has_the_cells_of_the_script():
    made = json.loads((EXAMPLES / "own_loop.ipynb").read_text(encoding="utf-8"))
    assert made["nbformat"] == 4
    shown = [(cell["cell_type"], "".join(cell["source"])) for cell in made["cells"]]
    assert shown == BUILD["cells"](), "run examples/build_notebook.py"
    outputs = [output for cell in made["cells"] for output in cell.get("outputs", [])]
    pictures = ["".join(output["data"]["image/svg+xml"]) for output in outputs if "data" in output]
    assert len(pictures) == 2 and all(text.startswith("<svg ") for text in pictures)
    assert "round 60" in "".join("".join(output.get("text", [])) for output in outputs)
    assert (EXAMPLES / "own_loop.ipynb").stat().st_size < 200_000


@pytest.mark.slow
def test_the_notebook_runs(monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", None)
    made = BUILD["notebook"]()
    kinds = [output["output_type"] for cell in made["cells"] for output in cell.get("outputs", [])]
    assert kinds == ["stream", "display_data", "display_data"]

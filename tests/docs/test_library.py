"""docs/library.md: its blocks run in their order, and its tables name what the faces export."""

import importlib

import jax.numpy as jnp
import pytest
from docs.pages import ROOT, blocks, inline_code

PAGE = ROOT / "docs" / "library.md"


@pytest.mark.slow
def test_the_blocks_run_in_their_order():
    names: dict = {}
    for number, block in enumerate(blocks(PAGE, "python")):
        exec(compile(block, f"library.md, block {number}", "exec"), names)
    assert jnp.isfinite(names["metrics"]["entropy"]) and names["advantages"].shape == names["rows"].tokens.shape


def test_each_name_of_a_face_is_told():
    told = set(inline_code(PAGE))
    for module in ("stepjax.rollout", "stepjax.rewards", "stepjax.learners"):
        assert set(importlib.import_module(module).__all__) <= told, module

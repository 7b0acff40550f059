"""docs/slow_environment.py measures the slots while an environment takes its time."""

import importlib
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("fed", [0, 64])
def test_slots_do_not_wait(monkeypatch: pytest.MonkeyPatch, fed: int) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "docs"))
    script = importlib.import_module("slow_environment")
    found = script.measure(0.2, "1m", fed)
    assert 0 < found["decoding"] < found["decoding"] + found["feeding"] + found["prefilling"] <= 1.0
    assert (found["feeding"] == 0, found["prefilled again"] == 0) == (fed == 0, fed > 0)
    assert found["steps"] >= script.ROWS * script.TURNS * script.TOKENS / script.SLOTS

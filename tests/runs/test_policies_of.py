"""Which policies a run has: its own, and its base's where it has trained none on top of stage sft."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stepjax.runs import stages
from stepjax.runs.stages import newest_policy, policies_of


@pytest.mark.parametrize(
    ("own", "base", "found"),
    [
        ((), (), []),
        (("sft", "prm"), (), ["sft"]),
        (("sft", "improve"), (), ["sft", "improve"]),
        (("sft", "improve", "ppo"), (), ["sft", "improve", "ppo"]),
        ((), ("sft", "prm", "ppo"), ["sft", "ppo"]),
        (("improve",), ("sft", "ppo"), ["sft", "improve"]),
        (("ppo",), ("sft", "improve"), ["sft", "ppo"]),
    ],
)
def test_a_base_adds_what_this_run_builds_on(monkeypatch, own, base, found):
    def latest(folder: Path) -> int | None:
        return 1 if folder.name in (base if folder.parts[0] == "base" else own) else None

    monkeypatch.setattr(stages, "_latest", latest)
    config = SimpleNamespace(base="base" if base else "")
    run: Any = SimpleNamespace(config=config, start=None, checkpoint_folder=lambda stage: Path("own") / stage)
    assert policies_of(run) == found and newest_policy(run) == (found or ["sft"])[-1]

"""Options of stage improve that contradict each other are refused in one line, before anything is trained."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stepjax.config import Config, EnvironmentOptions
from stepjax.errors import UserError
from stepjax.improve.stage import check_improve
from stepjax.options import parse
from stepjax.parallel import make_mesh
from stepjax.runs.opening import open_run
from stepjax.runs.stages import check_stages

PUCT = {"search.method": "puct", "search.prm": "value", "prm.target": "value", "prm.classes": 2}


def changed(config: Any, name: str, value: Any) -> Any:
    first, _, rest = name.partition(".")
    return dataclasses.replace(config, **{first: changed(getattr(config, first), rest, value) if rest else value})


def check(**changes: Any) -> None:
    config = Config()
    for name, value in changes.items():
        config = changed(config, name, value)
    task = SimpleNamespace(name="mine", problems=lambda split: [None], rate_steps=lambda problem, steps: None)
    run: Any = SimpleNamespace(config=config, task=task, mesh=make_mesh(8))
    check_improve(run)


def test_where_ppo_starts_is_said(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    config, _ = parse(["--config.mesh.data=1"])
    with open_run(config, tmp_path / "run") as run:
        for stages in (("sft", "prm", "improve", "ppo"), ("sft", "prm", "ppo")):
            capfd.readouterr()
            check_stages(run, stages)
            told = capfd.readouterr()
            said = "stage ppo starts from the policy of stage sft" in told.out + told.err
            assert said == ("improve" in stages)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"improve.rows": 12}, "config.improve.rows: 12 rows do not divide over the mesh's data × fsdp = 8 devices"),
        ({"environment": EnvironmentOptions(name="guess")}, "a search does not ask environments"),
        ({"search.temperature": 0.0}, "config.search.temperature: at 0 the search finds what the policy writes anyway"),
        ({"search.temperature": 0.0, "search.n": 1}, "config.search.temperature: at 0"),
        ({"search.method": "beam", "search.n": 6}, "must be a multiple of config.search.width=4"),
        ({"search.prm": "value"}, "config.search.prm=value: the process reward model here rates steps"),
        ({"search.prm": "exact", "search.method": "beam"}, "has no verifier of single steps, which method=beam needs"),
        ({"improve.targets": "visits"}, "method=best_of_n has no trees with visits; take config.search.method=puct"),
        ({"improve.targets": "visits", "search.method": "puct", "search.width": 1}, "raise config.search.width"),
        ({"improve.prm": True}, "config.improve.prm=True with config.search.method=best_of_n: it backs no values up"),
        ({"improve.prm": True, "search.method": "puct"}, "with config.search.prm=learned: the search would not read"),
        ({**PUCT, "improve.prm": True, "prm.classes": 3}, "with config.prm.classes=3: a value is the probability"),
        (
            {**PUCT, "improve.prm": True, "prm.path": "some/model"},
            "with config.prm.path: a public model is not trained",
        ),
        ({**PUCT, "improve.prm": True, "lora.rank": 4}, "with config.lora.rank=4: value models have no adapters"),
        ({"lora.rank": 4, "lora.stages": ("sft", "prm", "ppo")}, "config.lora.stages: stage sft has adapters"),
    ],
)
def test_contradictions_take_one_line(changes, said):
    with pytest.raises(UserError) as error:
        check(**changes)
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "changes",
    [{}, {"search.n": 1}, {**PUCT, "improve.prm": True}, {"search.method": "puct", "improve.targets": "visits"}],
)
def test_what_fits_together_is_not_refused(changes):
    check(**changes)

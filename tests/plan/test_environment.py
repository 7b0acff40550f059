"""A run with an environment over turns is planned and timed as one without: its replies are nobody's to know."""

import jax
import pytest

from stepjax.errors import UserError
from stepjax.options import parse
from stepjax.parallel import make_mesh
from stepjax.plan.surroundings import planned_run
from stepjax.runs.ppo_programs import PPOPrograms


def test_the_programs_of_the_game():
    mesh = make_mesh(1, 1, 1, devices=jax.devices()[:1])
    run = planned_run(parse(["--config=guess:turn_outcome"]).config, mesh)
    assert {name: stream.signal for name, stream in run.config.ppo.streams.items()} == {
        "turn": "finish",
        "outcome": "outcome",
    }
    programs = PPOPrograms(run, prm=False)
    assert programs.round.outputs.turns is None and programs.credit.outputs()[0].rewards.shape[1] == 2


def test_what_does_not_fit_is_said_before_it_is_planned():
    with pytest.raises(UserError, match=r"^config\.environment\.name: no environment 'gess' "):
        planned_run(parse(["--config=guess", "--config.environment.name=gess"]).config, make_mesh(1, 1, 1))

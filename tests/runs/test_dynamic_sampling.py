"""Dynamic sampling: a round is filled with problems that teach something, whatever devices their rows lie on."""

import contextlib
import dataclasses
import functools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from runs.tiny_run import OPTIONS, TinyRun, assert_same_run, lines, stepjax, write_config

from stepjax.host_rows import HostRows
from stepjax.options import parse
from stepjax.parallel import batch_sharding, fetch, make_mesh, put
from stepjax.programs import abstract
from stepjax.runs.dynamic_sampling import DynamicSampling
from stepjax.runs.responses import Response
from stepjax.tasks.base import Problem
from stepjax.trajectory import Trajectory

ROWS, SAMPLES, WIDTH = 16, 4, 5  # two rows a device: each problem's lie on two of them


@functools.cache
def mesh():
    return make_mesh(4, 2, 1)


def sampled(rollout: int) -> Trajectory:
    """A rollout whose tokens say which rollout and row they are of."""
    numbers = 100 * rollout + np.arange(ROWS, dtype=np.int32)
    rows = Trajectory(
        tokens=np.tile(numbers[:, None], WIDTH), prompt_length=numbers, response_length=numbers,
        finished=numbers % 2 == 0, logprobs=np.zeros((ROWS, WIDTH), np.float32), prompt_width=2,
    )  # fmt: skip
    return put(rows, batch_sharding(mesh()))


class Rollouts:
    """Stands in for the sampler of a round: `right[rollout][row]` says which responses are right."""

    def __init__(self, right: np.ndarray):
        self.right, self.outputs, self.started = right, abstract(sampled(0)), 0

    def start(self):
        self.started += 1
        number = self.started - 1
        names = [f"{number}/{group}" for group in range(ROWS // SAMPLES)]
        return [sampled(number)], [Problem(name, "", "", "") for name in np.repeat(names, SAMPLES)]

    def whole(self, waves):
        return waves[0]

    def read(self, problems, waves, waiting, rating):
        with waiting(), rating():
            number = int(problems[0].id.split("/")[0])
            right = self.right[number]
        return [
            Response(problem, [], [row], f"{number}/{row}", [], True, bool(right[row]), None)
            for row, problem in enumerate(problems)
        ]


@functools.cache
def compiled():
    hosts = HostRows(mesh(), ROWS)
    return DynamicSampling(Rollouts(np.zeros((1, ROWS))), hosts, mesh(), samples=SAMPLES, most=1)  # type: ignore[arg-type]


def filled(right: np.ndarray, most: int, told: bool = False):
    rollouts, refill = Rollouts(right), compiled()
    refill.sampler, refill.most, refill._told = rollouts, most, told and refill._told  # type: ignore[assignment]
    found = refill(rollouts.start(), rollouts.start, contextlib.nullcontext, contextlib.nullcontext, "PPO round 7")
    return found, rollouts.started


def by_loop(right: np.ndarray, most: int) -> tuple[list[tuple[int, int]], int]:
    """(rollout, group) at each place of the round, and how many rollouts were drawn."""

    def teaches(rollout: int, group: int) -> bool:
        return len(set(right[rollout, group * SAMPLES : (group + 1) * SAMPLES].tolist())) == 2

    places, rollout = [(0, group) for group in range(ROWS // SAMPLES)], 0
    while rollout < most and not all(teaches(*place) for place in places):
        rollout += 1
        fresh = [(rollout, group) for group in range(ROWS // SAMPLES) if teaches(rollout, group)]
        for i, place in enumerate(places):
            if not teaches(*place) and fresh:
                places[i] = fresh.pop(0)
    return places, rollout + 1


@pytest.mark.parametrize("seed", range(8))
def test_a_round_is_filled_as_a_plain_loop_fills_it(seed):
    rng = np.random.default_rng(seed)
    right, most = rng.random((5, ROWS)) < 0.15, int(rng.integers(1, 5))
    places, drawn = by_loop(right, most)
    found, started = filled(right, most)
    assert started == drawn == found.figures["refill/rollouts"] and len(found.waves) == drawn
    rows = fetch(found.rows)
    for place, (rollout, group) in enumerate(places):
        for sample in range(SAMPLES):
            row, source = place * SAMPLES + sample, group * SAMPLES + sample
            assert (rows.tokens[row] == 100 * rollout + source).all() and rows.response_length[row] == rows.tokens[
                row, 0
            ]
            assert found.problems[row].id == f"{rollout}/{group}"
            assert found.own[row].text == f"{rollout}/{source}"
    groups = right[:drawn].reshape(-1, SAMPLES)
    teaching = groups.any(1) & ~groups.all(1)
    kept = [right[r, g * SAMPLES : (g + 1) * SAMPLES] for r, g in places]
    informative = sum(len(set(x.tolist())) == 2 for x in kept)
    assert found.figures["refill/informative"] == informative / len(places)
    assert found.figures["refill/uninformative"] == pytest.approx(1 - teaching.mean())
    assert found.figures["refill/unused"] == pytest.approx((teaching.sum() - informative) / len(groups))
    assert found.figures["refill/accuracy"] == right[0].mean()


def test_a_round_that_cannot_be_filled_says_so_once(capsys):
    right = np.zeros((3, ROWS), bool)
    right[1, 5] = True
    found, started = filled(right, 2)
    said = capsys.readouterr().out
    assert "PPO round 7: after 3 rollouts 1 of 4 problems are informative; the others stay" in said
    assert started == 3 and [p.id for p in found.problems[::SAMPLES]] == ["1/1", "0/1", "0/2", "0/3"]
    filled(right, 2, told=True)
    assert not capsys.readouterr().out


@pytest.mark.slow
def test_a_run_is_filled_and_continues_with_the_same_bits(tiny: TinyRun, tmp_path: Path):
    changes = {
        "ppo.refill": 3, "ppo.iterations": 4, "ppo.checkpoint_every": 2, "ppo.train_on": ("informative",),
        "ppo.stale": True, "ppo.importance_cap": 2.0,
    }  # fmt: skip
    streams = '{"outcome": stream(signal="outcome", estimator="group", horizon="response", critic=False)}'
    config = write_config(tmp_path / "changed.py", {**OPTIONS, **changes}, streams=streams)
    whole, parts = tiny.copy(tmp_path / "whole", without=("ppo",)), tmp_path / "parts"
    (whole / "config.json").write_text(json.dumps(dataclasses.asdict(parse([f"--config={config}"])[0])))
    assert stepjax("ppo", config, whole) == 0
    found = lines(whole, "ppo")
    assert any(line["refill/rollouts"] > 1 for line in found)
    for line in found:
        assert line["train_on/fraction"] > 0 and 0 < line["refill/informative"] <= 1
        assert line["refill/informative"] == 1 or line["refill/rollouts"] == 4
        assert line["refill/informative"] < 1 or line["train_on/fraction"] == 1
    shutil.copytree(whole, parts)
    shutil.rmtree(parts / "checkpoints" / "ppo" / "4")
    assert stepjax("ppo", config, parts) == 0
    assert_same_run(parts, whole, ["ppo"])


def test_one_response_to_a_problem_is_refused(tmp_path: Path, capsys):
    config = write_config(tmp_path / "one.py", {**OPTIONS, "ppo.refill": 2, "ppo.samples": 1})
    assert stepjax("ppo", config, tmp_path / "run") == 2
    assert "config.ppo.refill: ppo.samples must be 2 or more" in capsys.readouterr().err

"""What the report tells of a run: its changed options, machine, versions and durations."""

import dataclasses
import json

from stepjax.config import Config, StreamOptions
from stepjax.report import facts


def test_changed_options_are_told_with_their_defaults():
    config = dataclasses.asdict(Config(seed=3))
    config["ppo"]["streams"]["process"]["neutral"] = -0.5
    config["ppo"]["streams"]["answer"] = dataclasses.asdict(StreamOptions(signal="outcome", weight=0.5))
    config["ppo"]["gone"] = [1, 2]
    changed, others = facts.options(json.loads(json.dumps(config)))
    assert [dataclasses.astuple(option) for option in changed] == [
        ("ppo.gone", "[1, 2]", ""),
        ("ppo.streams.answer.signal", "outcome", "no such stream"),
        ("ppo.streams.answer.weight", "0.5", "1.0"),
        ("ppo.streams.process.neutral", "-0.5", "0.0"),
        ("seed", "3", "0"),
    ]
    assert len(others) > 150 and not {option.name for option in changed} & {option.name for option in others}


def test_a_stream_that_was_removed_is_told():
    config = dataclasses.asdict(Config())
    config["ppo"]["streams"] = {}
    changed, _ = facts.options(config)
    assert ("ppo.streams.process", "none", "there is one") in [dataclasses.astuple(option) for option in changed]
    assert facts.options({}) == ([], []) and facts.options({"ppo": 3})[0][0].value == "3"


def test_durations_add_up_over_the_parts_of_a_stage():
    metrics = [{"stage": "sft", "step": 3000}, {"stage": "ppo", "step": 60}]
    executions = [
        {"stage": "sft", "seconds": 65.2},
        {"stage": "ppo", "seconds": 100.0, "stopped": True},
        {"stage": "ppo", "seconds": 30.4},
        {"stage": "eval", "seconds": "x"},
        {"stage": "eval", "seconds": 20},
    ]
    told = ["SFT: 3,000 updates in 1:05", "PPO: 60 iterations in 2:10", "eval: 0:20", "all in 3:36"]
    assert facts.stages(metrics, executions) == told
    assert facts.stages(metrics, []) == ["SFT: 3,000 updates", "PPO: 60 iterations"]


def test_each_machine_and_version_is_told_once():
    cpu = {"devices": 1, "device": "cpu", "cores": 2, "processes": 1, "versions": {"stepjax": "0.1.0", "jax": "0.9"}}
    tpu = cpu | {"devices": 16, "device": "TPU v5e", "cores": 112, "processes": 4}
    assert facts.machine([cpu, cpu, tpu, {}]) == [
        "1 × cpu (2 cores)",
        "stepjax 0.1.0, jax 0.9",
        "16 × TPU v5e on 4 hosts",
    ]

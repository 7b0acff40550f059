"""`stepjax plan` on the command line: its mistakes, its table, its JSON and its sweep."""

import dataclasses
import importlib.util
import json
import types

import jsonschema
import pytest
from plan.planned import LAYERS, config_of

from stepjax.chips import CHIPS, Topology
from stepjax.cli import main
from stepjax.plan import command
from stepjax.plan.compiled import ProgramPlan, seconds_of, with_memory
from stepjax.plan.cost import Collective, Cost
from stepjax.plan.report import advice, make_plan

PROGRAM = {
    "type": "object",
    "required": [
        *("name", "hbm_bytes_per_chip", "host_bytes_per_chip", "flops_per_chip", "bytes_per_chip"),
        *("collectives", "seconds", "bound"),
    ],
    "properties": {
        "name": {"type": "string"},
        "hbm_bytes_per_chip": {"type": ["number", "null"], "minimum": 0},
        "host_bytes_per_chip": {"type": ["number", "null"], "minimum": 0},
        "flops_per_chip": {"type": "number", "minimum": 0},
        "bytes_per_chip": {"type": "number", "minimum": 0},
        "collectives": {"additionalProperties": {"type": "object", "required": ["count", "bytes"]}},
        "seconds": {"type": ["number", "null"], "minimum": 0},
        "bound": {"enum": ["compute", "memory", "network", None]},
    },
}
SCHEMA = {
    "type": "object",
    "required": ["topology", "mesh", "fits", "programs"],
    "properties": {
        "topology": {"type": "string"},
        "mesh": {"type": "object", "required": ["data", "fsdp", "tensor"]},
        "fits": {"type": ["boolean", "null"]},
        "programs": {"type": "array", "minItems": 1, "items": PROGRAM},
    },
}


def program(name="update", stage="ppo", runs=10, **changes) -> ProgramPlan:
    gib = 2.0**30
    plan = ProgramPlan(
        name,
        stage,
        runs,
        beside=gib,
        hbm_bytes_per_chip=5 * gib,
        arguments=3 * gib,
        temporaries=1 * gib,
        outputs=0.0,
        aliased=0.0,
        host_bytes_per_chip=0.0,
        flops_per_chip=1e12,
        collectives={"all-gather": {"count": 4, "bytes": 2e9}},
        seconds=2.0,
        bound="compute",
        fits=True,
    )
    return dataclasses.replace(plan, **changes)


@pytest.fixture
def plans(monkeypatch):
    """Plans without a compiler: the programs to give, by mesh sizes and prompts."""
    given = {}

    def opened(name):
        return Topology(name, CHIPS["v5e"], 4, tuple(types.SimpleNamespace(process_index=0) for _ in range(4)))

    def planned(config, topology, sizes, only=()):
        mesh = dict(zip(("data", "fsdp", "tensor"), sizes, strict=True))
        found = given["programs"](config, sizes)
        return make_plan(config, topology.name, topology.chip, topology.chips, mesh, found, whole=not only)

    monkeypatch.setattr(command, "open_topology", opened)
    monkeypatch.setattr(command, "plan_run", planned)
    return given


def said(capsys, *argv):
    status = main(["plan", *argv])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.mark.parametrize(
    "argv, line",
    [
        ((), "name the chips"),
        (("--topology=v9:2x2",), "no such chip"),
        (("--topology=h100:8",), "without a GPU no program can be compiled"),
        (("--topology=v5e:0x4",), "write chips along each axis"),
        (("--topology=v5e:2",), "write chips along each axis"),
        (("--topology=v5e:2x2", "--mesh=3x1x1"), "--mesh (or config.mesh): it takes 3 of the 4 devices of v5e:2x2"),
        (("--topology=v5e:2x2", "--mesh=4"), "--mesh=4: write devices along data, fsdp and tensor"),
        (("--topologie=v5e:2x2",), "did you mean 'topology'"),
        (("--topology",), "write --topology=NAME"),
        (("--topology=v5e:2x2", "x"), "what is 'x'?"),
        (("--topology=v5e:2x2", "--config=nowhere"), "nowhere: no such file"),
        (("--topology=v5e:2x2", "--sweep", "--mesh=1x4x1"), "leave out --mesh or --sweep"),
    ],
)
def test_mistakes_are_one_line(capsys, monkeypatch, argv, line):
    if "--mesh" in "".join(argv):
        four = types.SimpleNamespace(name="v5e:2x2", devices=[None] * 4)
        monkeypatch.setattr(command, "open_topology", lambda name: four)
    status, out, err = said(capsys, *argv)
    assert status == 2 and not out and err.count("\n") == 1 and line in err


def test_without_libtpu_one_clear_line(capsys, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "libtpu" else find(name, *a))
    status, out, err = said(capsys, "--topology=v5e:2x2")
    assert (status, out) == (2, "")
    assert err == "stepjax: stepjax plan needs libtpu, no TPU: pip install 'stepjax[plan]'\n"


def test_json_has_its_schema(capsys, plans):
    broken = program("score", fits=None, failure="crashed", seconds=None, hbm_bytes_per_chip=None, bound=None)
    for found in ([program("rollout"), program()], [program("rollout", fits=False), program()], [program(), broken]):
        plans["programs"] = lambda config, sizes, found=found: found
        status, out, _ = said(capsys, "--topology=v5e:2x2", "--mesh=1x4x1", "--json")
        value = json.loads(out)
        jsonschema.validate(value, SCHEMA)
        assert status == 0 and value["mesh"] == {"data": 1, "fsdp": 4, "tensor": 1}
        assert value["fits"] is {True: True, False: False, None: None}[found[0].fits and found[1].fits]


def test_the_table_and_the_verdict(capsys, plans):
    plans["programs"] = lambda config, sizes: [program("sft_update", "sft"), program("rollout"), program()]
    _, out, _ = said(capsys, "--topology=v5e:2x2", "--mesh=1x4x1", "--config.ppo.prompts=100")
    assert "v5e:2x2: 4 chips of 16 GiB, mesh data 1 × fsdp 4 × tensor 1" in out
    assert any(line.split()[:3] == ["update", "5.00", "3.00"] for line in out.splitlines())
    # A round is the two programs of stage ppo, 4 seconds; the quickstart's responses have 48 tokens.
    assert f"verdict: it fits; {100 * 48 / 4:,.0f} tokens a second; {(3 * 10 * 2.0) * 4 / 3600:,.1f} chip-hours" in out


def test_a_rollout_that_is_not_the_planned_one_is_said(capsys, plans):
    plans["programs"] = lambda config, sizes: [program("rollout"), program()]
    argv = ("--topology=v5e:2x2", "--mesh=1x4x1")
    assert "ppo.carry" not in said(capsys, *argv)[1]
    _, out, _ = said(capsys, *argv, "--config.ppo.carry=2", "--config.ppo.importance_cap=2")
    assert "rollout without ppo.carry=2" in out and "of the first round" not in out
    assert "rollout of the first round" in said(capsys, *argv, "--config.ppo.cache_tokens=9000")[1]


def test_what_does_not_fit_is_named_with_what_to_change(capsys, plans):
    big = program(fits=False, temporaries=30 * 2.0**30, largest=((8 * 2.0**30, "logits f32[4,1024,152064]"),))
    plans["programs"] = lambda config, sizes: [program("rollout"), big]
    _, out, _ = said(capsys, "--topology=v5e:2x2", "--mesh=1x4x1")
    assert "update does not fit; its largest buffers:\n      8.00 GiB  logits f32[4,1024,152064]" in out
    changes = out.partition("it does not fit. What to change:\n")[2]
    assert "model.remat=True" in changes and "ppo.micro_tokens=" in changes and "mesh.fsdp" not in changes


def test_advice_for_a_large_state(tmp_path):
    config = config_of(tmp_path)
    full = program(fits=False, arguments=40 * 2.0**30)
    found = advice(config, make_plan(config, "v5e:2x2", CHIPS["v5e"], 4, {}, [full]))
    assert "mesh.fsdp" in found[0] and any("lora.rank" in line for line in found)


def test_advice_for_a_rollout_is_about_what_says_how_many_slots_there_are(tmp_path):
    full, config = program("rollout", fits=False, temporaries=40 * 2.0**30), config_of(tmp_path)
    for change, told in (({"prompts": 8, "samples": 8}, "slots=32"), ({"cache_tokens": 9000}, "cache_tokens=4500")):
        of = dataclasses.replace(config, ppo=dataclasses.replace(config.ppo, slots=0, **change))
        found = advice(of, make_plan(of, "v5e:2x2", CHIPS["v5e"], 4, {}, [full]))
        assert any(f"fewer responses at once: ppo.{told};" in line for line in found), found


def test_what_waits_on_the_host_is_shown_and_bounded(capsys, plans):
    """The table has it beside the chip's memory; where the host is what is too small, the advice is about the host."""
    gib = 2.0**30
    plans["programs"] = lambda config, sizes: [program(host_bytes_per_chip=6.25 * gib)]
    _, out, _ = said(capsys, "--topology=v5e:2x2", "--mesh=1x4x1")
    header, row = (line.split() for line in out.splitlines()[1:3])
    assert row[header.index("host") - 1] == "6.25", "one column's name is two words"
    assert "the memory of a chip's host, divided by its chips, is 44.7 GiB" in out
    # The same memory of the chip, under two hosts.
    sizes = {f"{place}{name}_size_in_bytes": 0 for place in ("", "host_") for name in ("argument", "output", "alias")}
    for host, fits in ((44.0, True), (45.0, False)):
        memory = types.SimpleNamespace(**sizes, temp_size_in_bytes=gib, host_temp_size_in_bytes=host * gib)
        topology = Topology("v5e:2x2", CHIPS["v5e"], 4, (None,) * 4)
        found = with_memory(ProgramPlan("update", "ppo", 1, beside=0.0), memory, topology)
        assert (found.host_bytes_per_chip, found.fits) == (host * gib, fits)
    plans["programs"] = lambda config, sizes: [found]
    changes = said(capsys, "--topology=v5e:2x2", "--mesh=1x4x1")[1].partition("What to change:\n")[2]
    assert changes.startswith("  model.remat_policy=full") and "mesh.fsdp" not in changes


def test_a_sweep_is_sorted_best_first(capsys, plans):
    def programs(config, sizes):
        fast = config.ppo.prompts / sizes[2]  # half as fast with tensor 2
        return [program(fits=sizes[0] == 1 and config.ppo.prompts < 256, seconds=100 / fast)]

    plans["programs"] = programs
    status, out, _ = said(capsys, "--topology=v5e:2x2", "--sweep", "--json")
    found = json.loads(out)
    assert status == 0 and len(found) == 3 * 4
    for value in found:
        jsonschema.validate(value, SCHEMA)
    order = [(p["fits"], p["tokens_per_second"]) for p in found]
    assert order == sorted(order, key=lambda x: (not x[0], -x[1]))
    assert found[0]["fits"] and found[0]["mesh"] == {"data": 1, "fsdp": 4, "tensor": 1} and found[0]["prompts"] == 128
    _, out, _ = said(capsys, "--topology=v5e:2x2", "--sweep")
    lines = out.splitlines()
    assert lines[1].split() == ["data", "fsdp", "tensor", "prompts", "fits", "HBM", "GiB", "tokens/s", "chip-hours"]
    assert lines[2].split()[:5] == ["1", "4", "1", "128", "yes"]


def test_the_longest_of_three_times():
    topology = Topology("v5e:2x2", CHIPS["v5e"], 4, ())
    found = seconds_of(Cost(197e12, 819e9, {"all-gather": Collective(1, 200e9)}), topology)
    assert found == pytest.approx({"compute": 1 / 0.6, "memory": 1 / 0.8, "network": 1 / 0.7})


@pytest.mark.slow
@pytest.mark.usefixtures("libtpu")
def test_a_plan_of_a_real_topology(capfd, tmp_path):
    config_of(tmp_path)
    config = f"--config={tmp_path / 'planned_config.py'}"
    offload = ["--config.model.remat=True", "--config.model.remat_policy=offload"]
    status = main(["plan", config, "--topology=v5e:2x4", "--programs=sft_update,rollout", "--json", *offload])
    captured = capfd.readouterr()
    value = json.loads(captured.out)
    jsonschema.validate(value, SCHEMA)
    assert status == 0 and value["fits"] and [p["name"] for p in value["programs"]] == ["sft_update", "rollout"]
    assert all(p["flops_per_chip"] > 0 and p["compile_seconds"] > 0 for p in value["programs"])
    update, rollout = value["programs"]
    # Each layer's input: 8 rows of 256 over data 2 × fsdp 2, a width of 96 in float32, in whole tiles.
    inputs = LAYERS * (8 * 256 / 4) * 96 * 4
    assert inputs <= update["host_bytes_per_chip"] < 2 * inputs and rollout["host_bytes_per_chip"] == 0
    assert value["tokens_per_second"] is None, "not all programs of a round are there"
    # One that does not fit is told from the compiler's own message.
    big = ["--config.model.width=8192", "--config.model.mlp=32768", "--config.model.layers=16", "--mesh=8x1x1"]
    status = main(["plan", config, "--topology=v5e:2x4", "--programs=sft_update", *big])
    out = capfd.readouterr().out
    assert status == 0 and "verdict: it does not fit" in out and "GiB  state['params']" in out

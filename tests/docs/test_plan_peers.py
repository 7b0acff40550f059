"""docs/plan_peers.py: the run that it compares, and the lines of its table. Its peer is not installed here."""

import runpy
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from stepjax.parallel import make_mesh
from stepjax.plan.compiled import ProgramPlan
from stepjax.plan.surroundings import planned_programs, planned_run, resident_bytes

SCRIPT = Path(__file__).parents[2] / "docs" / "plan_peers.py"


@pytest.fixture(scope="module")
def script() -> Iterator[SimpleNamespace]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPT.parent))  # beside it lies what it imports
        yield SimpleNamespace(**runpy.run_path(str(SCRIPT)))


def work(script: SimpleNamespace, **changes: object):
    sizes = {"rows": 8, "prompt": 32, "new": 64, "tensor": 2, "remat": True}
    return script.Work(script.MODELS["1m"], "v5e:2x2", **sizes | changes)


def test_both_train_policy_and_critic_on_the_same_rows_once(script):
    config = script.stepjax_config(work(script))
    run = planned_run(config, make_mesh(1, -1, 2, devices=jax.devices()[:8]))
    programs = {p.program.name: p for p in planned_programs(run)}
    state, rows, *_ = programs["update"].program.inputs
    assert run.decoder.remat and run.decoder.dtype == jnp.bfloat16
    assert rows.tokens.shape == (8, 96) and config.ppo.epochs == config.ppo.minibatches == 1
    params = {role: resident_bytes(state[role]["params"]) for role in ("policy", "critic")}
    # A reference, no process reward model; the moments are float32 like the parameters.
    assert programs["update"].beside == pytest.approx(params["policy"])
    assert resident_bytes(state) == pytest.approx(3 * sum(params.values()), rel=0.01)
    # Every parameter is there once for each pair along tensor, or four times where it is not divided over fsdp.
    whole = sum(leaf.size for leaf in jax.tree.leaves(run.policy.shapes))
    assert whole * 4 / 8 <= params["policy"] < whole * 4 / 2


def test_a_line_adds_up_and_names_its_collectives(script):
    gib = 2.0**30
    plan = ProgramPlan(
        "update",
        "ppo",
        1,
        beside=gib,
        hbm_bytes_per_chip=7.5 * gib,
        arguments=3 * gib,
        temporaries=2 * gib,
        outputs=3 * gib,
        aliased=1.5 * gib,
        flops_per_chip=2e12,
        bytes_per_chip=3e9,
        collectives={"all-gather": {"count": 4, "bytes": 2e9}, "all-reduce": {"count": 1, "bytes": 5e8}},
    )
    line = dict(zip(script.COLUMNS, script.row("stepjax", "update", plan), strict=True))
    assert float(line["HBM GiB"]) == sum(float(line[x]) for x in ("args", "temp", "outputs", "beside"))
    assert (line["TFLOP"], line["GB"], line["sent GB"]) == ("2", "3", "2.5")
    assert line["collectives"] == "4 all-gather (2), 1 all-reduce (0.5)"


def test_a_program_without_a_plan_has_a_line(script):
    none = ProgramPlan("decode", "ppo", 1, beside=0.0, hbm_bytes_per_chip=40 * 2.0**30, fits=False)
    line = script.row("stepjax", "decode", none)
    assert len(line) == len(script.COLUMNS) and line[2] == "40.00, too much"


def test_without_its_peer_it_says_what_to_install(script, capsys):
    with pytest.raises(SystemExit) as ended:
        script.main(["--shape=1m"])
    assert ended.value.code == 2 and "pip install google-tunix" in capsys.readouterr().err

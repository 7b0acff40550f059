"""What goes wrong from outside: one clear line, exit status 2, and earlier checkpoints as they were."""

import json
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs.tiny_run import OPTIONS, TinyRun, arrays, assert_same_run, lines, stepjax, write_config

from stepjax.errors import NonFiniteError
from stepjax.learners.finite import finite_program
from stepjax.parallel import fetch, make_mesh, put, replicated
from stepjax.programs import abstract
from stepjax.runs import ppo as ppo_module
from stepjax.runs.setup import check_state


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs a command that must fail; gives the line that it says."""
    monkeypatch.setenv("STEPJAX_QUIET", "1")

    def fails(command: str, config: Path, workdir: Path, *arguments: str, notices: int = 0) -> str:
        capsys.readouterr()
        assert stepjax(command, config, workdir, *arguments) == 2
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 1 + notices and said[-1].startswith("stepjax: "), said
        return said[-1]

    return fails


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_config(tmp_path_factory.mktemp("config") / "tiny.py")


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("--config.sft.updatse=3", "did you mean '--config.sft.updates'?"),
        ("--config.sft.updates=0", "config.sft.updates: must be at least 1, not 0"),
        ("--config.sft.checkpoint_every=0", "config.sft.checkpoint_every: must be at least 1"),
        ("--config.sft.optimizer.schedule=cosin", "must be one of constant, linear, cosine, not 'cosin'"),
        ("--config.sft.optimizer.lr=nan", "config.sft.optimizer.lr: must be a finite number"),
        ("--config.sft.optimizer.b2=1.0", "config.sft.optimizer.b2: must be below 1, not 1.0"),
        ("--config.sft.rows=many", "many"),
        ("--config.task.grader=a:b", "config.task.grader: register_chain grades by its own rules; leave it empty"),
        ("--config.seed=-1", "config.seed: must be at least 0"),
        ("--config.model.dtype=float16", "must be one of float32, bfloat16"),
        ("--config.ppo.environment=calc", "must be one of nothing, calculator, not 'calc'"),
        ("--config.model.head_dim=7", "config.model.head_dim: must be even"),
        ("--config.model.kv_heads=3", "heads=2 must be a multiple of kv_heads=3"),
        ("--config.mesh.data=3", "3 rows do not divide"),
        ("--config.mesh.data=16", "16 × 1 × 1 does not fit 8 devices; change --config.mesh.data=1"),
        ("--config.mesh.tensor=0", "config.mesh: sizes"),
        ("--config.task.name=register", "no task 'register' (did you mean 'register_chain'?)"),
        ("--config.task.register_chain.modulus=1", "config.task.register_chain.modulus: must be at least 2, not 1"),
        ("--config.task.separator=Q", "step separator 'Q': no sequence of the tokenizer's tokens spells it"),
        ("--config.tokenizer.path=nowhere", "config.tokenizer.path=nowhere: no tokenizer can be loaded from there"),
        ("--config.ppo.minibatches=3", "config.ppo.minibatches: 3 does not divide the 16 responses of a round"),
        ("--config.ppo.temperature=0.0", "config.ppo.temperature: must be above 0"),
        ("--config.ppo.kl_kind=k4", "must be one of k1, k2, k3, not 'k4'"),
        ("--config.ppo.streams.process.signal=limit", "streams.process needs prompts that state a step limit"),
        ("--config.ppo.ratio_guard=0.9", "config.ppo.ratio_guard: must be above 1, or 0 for none"),
        ("--config.ppo.loss=reinforced", "config.ppo.loss: must be one of ppo, reinforce"),
        ("--config.ppo.streams.process.signal=format", "config.ppo.streams.process.pattern: signal format needs it"),
        ("--config.ppo.dual_clip=0.5", "config.ppo.dual_clip: must be above 1, or 0 for none"),
        ("--config.ppo.streams.process.signal=prn", "no signal 'prn' (did you mean 'prm'?)"),
        ("--config.ppo.streams.process.horizon=far", "config.ppo.streams.process: horizon 'far'"),
        ("--config.ppo.streams.process.gamma=1.5", "gamma 1.5 must be between 0 and 1"),
        ("--config.ppo.streams.process.estimator=rlo", "must be one of gae, return, value, progress, group, rloo"),
        ("--config.ppo.streams.process.first=0.5", "first: only estimator progress reads it, not gae"),
        ("--config.eval.rows=0", "config.eval.rows: must be at least 1"),
        (
            "--config.stages=('sft','pmr')",
            "must be one of sft, label, prm, improve, ppo, eval, not 'pmr'",
        ),
        ("more", "what is 'more'?"),
    ],
)
def test_a_wrong_option_is_told_before_anything_runs(
    fails: Callable[..., str], config: Path, tmp_path: Path, argument: str, told: str
) -> None:
    workdir = tmp_path / "run"
    if argument == "--config.mesh.data=3":
        told = "config.sft.rows: 8 rows do not divide over the mesh's data × fsdp = 3 devices"
    assert told in fails("quickstart", config, workdir, argument)
    left = {path.name for path in workdir.iterdir()} if workdir.exists() else set()
    assert left <= {".lock"}, "the folder is free for the mended command"


def test_a_missing_config_file(fails: Callable[..., str], tmp_path: Path) -> None:
    assert "nowhere.py: no such file" in fails("sft", Path("nowhere.py"), tmp_path / "run")


def test_missing_data(fails: Callable[..., str], config: Path, tmp_path: Path) -> None:
    gsm8k, jsonl = "--config.task.name=gsm8k", "--config.task.name=jsonl"
    said = fails("sft", config, tmp_path / "run", gsm8k, f"--config.task.gsm8k={tmp_path}/none")
    assert f"gsm8k: no file {tmp_path}/none/train.jsonl; the folder must hold train.jsonl and test.jsonl" in said
    assert "no training file is named" in fails("sft", config, tmp_path / "run", jsonl)
    (tmp_path / "problems.jsonl").touch()
    said = fails("sft", config, tmp_path / "run", jsonl, f"--config.task.jsonl.train={tmp_path}/problem.jsonl")
    assert "problem.jsonl: no such file; did you mean problems.jsonl?" in said


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ('{"problem": "1+1?", "answer": ', "not JSON"),
        ("[1, 2]", "must hold one JSON object"),
        ('{"problem": "1+1?"}', "no field 'answer'"),
        ('{"problem": 3, "answer": 2}', "field 'problem' must be text"),
        ('{"problem": "1+1?", "answer": " "}', "field 'answer' is empty"),
    ],
)
def test_a_malformed_row_is_named_by_file_and_line(
    fails: Callable[..., str], tmp_path: Path, row: str, told: str
) -> None:
    good = [json.dumps({"problem": f"{i}+1?", "answer": i + 1, "solution": f"#### {i + 1}"}) for i in range(30)]
    path = tmp_path / "problems.jsonl"
    path.write_text("\n".join([*good[:16], row, *good[16:]]) + "\n")
    config = write_config(tmp_path / "mine.py", {**OPTIONS, "task.name": "jsonl", "task.jsonl.train": str(path)})
    said = fails("sft", config, tmp_path / "run")
    assert f"{path}:17: " in said and told in said


def test_problems_without_solutions_cannot_be_learned_from(fails: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "problems.jsonl"
    path.write_text("".join(json.dumps({"problem": f"{i}+1?", "answer": i + 1}) + "\n" for i in range(60)))
    options = {**OPTIONS, "task.name": "jsonl", "task.jsonl.train": str(path), "tokenizer.vocab": 300}
    config = write_config(tmp_path / "mine.py", options)
    assert "the problems have no solutions to learn from" in fails("sft", config, tmp_path / "run")
    config = write_config(tmp_path / "mine.py", {**options, "tokenizer.vocab": 100})
    assert "config.tokenizer.vocab=100: a byte-level BPE needs at least 300" in fails("sft", config, tmp_path / "run")


def test_rows_too_short_for_every_example(fails: Callable[..., str], config: Path, tmp_path: Path) -> None:
    said = fails("sft", config, tmp_path / "run", "--config.sft.row_tokens=8")
    assert "every example is longer than row_tokens=8" in said
    assert not (tmp_path / "run" / "config.json").exists()


def test_what_is_no_work_directory_of_this_config(fails: Callable[..., str], tiny: TinyRun, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert f"{tmp_path}/file is a file; use another --workdir" in fails("sft", tiny.config, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("mine")
    assert "holds notes.txt but no config.json" in fails("sft", tiny.config, tmp_path / "folder")
    workdir = tiny.copy(tmp_path / "run")
    before = snapshot(workdir)
    said = fails("quickstart", tiny.config, workdir, "--config.sft.rows=16")
    assert "was started with other options: sft.rows (8 there, 16 here)" in said
    assert snapshot(workdir) == before


def snapshot(workdir: Path) -> dict[str, bytes]:
    paths = (path for path in workdir.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(workdir)): path.read_bytes() for path in paths}


def test_a_missing_earlier_stage(fails: Callable[..., str], tiny: TinyRun, config: Path, tmp_path: Path) -> None:
    for command in ("prm", "ppo", "eval"):
        assert "stage sft has no checkpoint here; run `stepjax sft`" in fails(command, config, tmp_path / "new")
    workdir = tiny.copy(tmp_path / "run", without=("ppo", "prm"))
    assert "stage prm has no checkpoint here; run `stepjax prm`" in fails("ppo", tiny.config, workdir)


def test_a_loss_that_is_no_number_stops_supervised_training(
    fails: Callable[..., str], tmp_path: Path, compiled_once: Path
) -> None:
    options = {**OPTIONS, "sft.updates": 10, "sft.log_every": 1, "sft.checkpoint_every": 1}
    config = write_config(tmp_path / "high.py", {**options, "sft.optimizer.lr": 1e38})
    workdir = tmp_path / "run"
    told = fails("sft", config, workdir)
    assert "SFT step 2: " in told and "Lower the learning rate" in told
    assert [line["step"] for line in lines(workdir, "sft")] == [1]
    kept = arrays(workdir, "sft", 1)
    # The same command resumes from what is whole and fails the same way.
    assert fails("sft", config, workdir) == told
    assert all((arrays(workdir, "sft", 1)[name] == x).all() for name, x in kept.items())
    assert [path.name for path in (workdir / "checkpoints" / "sft").iterdir()] == ["1"]


def test_a_loss_that_is_no_number_stops_ppo(
    fails: Callable[..., str], tiny: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir = tiny.copy(tmp_path / "run", without=("ppo",))
    rounds = ppo_module.PPO.iterate

    def poisoned(self, state, order, iteration, *others, **more):
        state, *rest = rounds(self, state, order, iteration, *others, **more)
        if iteration == 5:
            norm = state["policy"]["params"]["trunk"]["norm"]
            state["policy"]["params"]["trunk"]["norm"] = put(np.nan * fetch(norm), norm.sharding)
        return state, *rest

    with monkeypatch.context() as patch:
        patch.setattr(ppo_module.PPO, "iterate", poisoned)
        told = fails("ppo", tiny.config, workdir)
    assert "PPO step 6: " in told and " is nan; nothing was saved since the last checkpoint" in told
    assert sorted(int(path.name) for path in (workdir / "checkpoints" / "ppo").iterdir()) == [2, 4]
    assert all(np.isfinite(x).all() for x in arrays(workdir, "ppo", 4).values())
    assert lines(workdir, "ppo") == lines(tiny.workdir, "ppo")[:5]


def test_an_update_that_is_not_finite_is_not_saved_though_the_loss_before_it_was() -> None:
    mesh = make_mesh(8)
    state = {"params": {"w": jnp.ones((8, 4))}, "optimizer": {"nu": jnp.ones(3, jnp.bfloat16), "count": jnp.int32(1)}}
    state = jax.device_put(state, replicated(mesh))
    finite = finite_program(abstract(state), mesh)
    check_state(finite, state, "SFT", 7)
    for spoiled in (
        {"params": {"w": state["params"]["w"].at[3, 1].set(jnp.inf)}},
        {"optimizer": _nan(state["optimizer"])},
    ):
        with pytest.raises(NonFiniteError, match="SFT step 7: a parameter is not finite; nothing was saved since"):
            check_state(finite, jax.device_put({**state, **spoiled}, replicated(mesh)), "SFT", 7)


def _nan(moments: dict) -> dict:
    return {**moments, "nu": moments["nu"].at[0].set(jnp.nan)}


@pytest.mark.slow
def test_a_damaged_checkpoint_is_passed_over_with_a_notice(
    tiny: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPJAX_QUIET", "1")
    workdir = tiny.copy(tmp_path / "run")
    folders = workdir / "checkpoints"
    for stage, steps, notice in (
        ("ppo", [12], f"Checkpoint {folders}/ppo/12 is damaged ("),
        ("sft", [100, 150], f"No checkpoint in {folders}/sft is whole (steps 100, 150): the stage starts over."),
    ):
        for step in steps:
            damage(folders / stage / str(step))
        assert stepjax(stage, tiny.config, workdir) == 0
        said = capsys.readouterr().err
        assert notice in said and said.count("\n") == 1
        assert_same_run(workdir, tiny.workdir, [stage])


def test_nothing_is_built_on_an_earlier_stage_that_is_damaged_or_unfinished(
    fails: Callable[..., str], tiny: TinyRun, tmp_path: Path
) -> None:
    workdir = tiny.copy(tmp_path / "run", without=("ppo",))
    for path in (workdir / "checkpoints" / "sft" / "150").rglob("*"):
        if path.is_file() and path.name != "checkpoint.json":
            path.write_bytes(bytes(path.stat().st_size))  # sizes stay: only reading finds it
    said = fails("ppo", tiny.config, workdir)
    assert (
        "checkpoints/sft/150 is damaged: " in said and "its stage, run again, continues from the one before it" in said
    )
    shutil.rmtree(workdir / "checkpoints" / "sft" / "150")
    said = fails("ppo", tiny.config, workdir)
    assert "stage sft is at update 100 of 150; finish it with `stepjax sft`" in said


def damage(folder: Path) -> None:
    largest = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)


@pytest.mark.parametrize("file", ["checkpoint", pytest.param("metrics", marks=pytest.mark.slow)])
def test_a_full_disk(fails: Callable[..., str], tiny: TinyRun, tmp_path: Path, file: str) -> None:
    workdir = tiny.copy(tmp_path / "run")
    shutil.rmtree(workdir / "checkpoints" / "ppo" / "12")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    size, told = {
        "checkpoint": (60_000, f"checkpoint of step 12 could not be written to {workdir}/checkpoints/ppo"),
        # The lines of iterations 11 and 12 go first; 11 fits in again in part.
        "metrics": ((workdir / "metrics.jsonl").stat().st_size - 1500, f"{workdir}/metrics.jsonl cannot be written"),
    }[file]
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        said = fails("ppo", tiny.config, workdir)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert f"{told}: File too large; " in said and "run the same command again" in said
    assert [path.name for path in (workdir / "checkpoints" / "ppo").iterdir()] == ["10"]
    assert stepjax("ppo", tiny.config, workdir) == 0
    assert_same_run(workdir, tiny.workdir, ["ppo"])

"""PPO as a whole: the same numbers on one device and on eight, and a work directory that holds what it promises."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from runs.tiny_run import THREE_ROUNDS, TinyRun, arrays, lines, stepjax

from stepjax.programs import Program
from stepjax.runs.response_sampling import ResponseSampler

MESHES = {"data": (8, 1, 1), "fsdp_tensor": (1, 4, 2)}
ABSOLUTE = {
    "explained_variance": 1e-4, "mismatch": 1e-5, "hack": 1e-5, "advantage_mean": 1e-5, "advantage_corr": 1e-4,
}  # fmt: skip
"""Where a relative difference says nothing: 1 − a ratio is as exact as the 1 is, a mismatch is rounding alone, the
learned reward minus the exact one is a difference of near numbers, and the mean of whitened advantages is 0."""


@pytest.fixture(scope="module")
def by_mesh(tiny: TinyRun, three_rounds: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three PPO iterations on each mesh, from the same supervised policy and reward model."""
    found = {"one": three_rounds}
    for name, sizes in MESHES.items():
        workdir = tiny.copy(tmp_path_factory.mktemp("mesh") / name, without=("ppo",))
        axes = [f"--config.mesh.{axis}={size}" for axis, size in zip(("data", "fsdp", "tensor"), sizes, strict=True)]
        assert stepjax("ppo", tiny.config, workdir, *THREE_ROUNDS, *axes) == 0
        found[name] = workdir
    return found


@pytest.mark.parametrize("mesh", ["data", "fsdp_tensor"])
def test_three_iterations_agree_between_meshes(by_mesh: dict[str, Path], mesh: str) -> None:
    alone, shared = lines(by_mesh["one"], "ppo"), lines(by_mesh[mesh], "ppo")
    assert [line["step"] for line in alone] == [line["step"] for line in shared] == [1, 2, 3]
    for ours, theirs in zip(alone, shared, strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours.keys() - {"stage"}:
            near = ABSOLUTE.get(name.partition("/")[0], 1e-8)
            assert theirs[name] == pytest.approx(ours[name], rel=1e-3, abs=near), (ours["step"], name)
    assert all(0 < line["true/separated"] <= 1 for line in alone)
    # It moved at all, and the responses that it learned from were the same.
    assert alone[2]["kl/reference"] > 1e-3 and len({line["true/accuracy"] for line in alone}) > 1
    assert texts(by_mesh["one"]) == texts(by_mesh[mesh])


@pytest.mark.parametrize("mesh", ["data", "fsdp_tensor"])
def test_parameters_agree_between_meshes(by_mesh: dict[str, Path], mesh: str) -> None:
    alone, shared = arrays(by_mesh["one"], "ppo"), arrays(by_mesh[mesh], "ppo")
    before = {f"policy/{name}": x for name, x in arrays(by_mesh["one"], "sft").items()}
    assert alone.keys() == shared.keys()
    for name in (name for name in alone if "/params/" in name):
        largest = np.abs(alone[name]).max()
        assert np.abs(shared[name] - alone[name]).max() <= 1e-3 * largest, name
        if name in before:
            # Far closer to each other than to where they started: it is the update that agrees.
            moved = np.linalg.norm(alone[name] - before[name])
            assert np.linalg.norm(shared[name] - alone[name]) < 1e-2 * moved, name


def texts(workdir: Path) -> list[str]:
    return [row["response"] for row in lines(workdir, "ppo", "samples.jsonl")]


def test_a_work_directory_holds_what_it_promises(tiny: TinyRun) -> None:
    names = {path.name for path in tiny.workdir.iterdir()}
    assert names == {
        ".lock", "config.json", "metrics.jsonl", "samples.jsonl", "eval.json", "report.html",
        "checkpoints", "tensorboard", "tokenizer", "responses", "stages.jsonl",
    }  # fmt: skip
    ran = [json.loads(line) for line in (tiny.workdir / "stages.jsonl").read_text().splitlines()]
    assert [line["stage"] for line in ran] == ["sft", "prm", "ppo", "eval"] and all(line["seconds"] > 0 for line in ran)
    assert json.loads((tiny.workdir / "config.json").read_text())["ppo"]["iterations"] == 12
    for stage, logged in (("sft", range(15, 151, 15)), ("prm", range(1, 11)), ("ppo", range(1, 13))):
        steps = [line["step"] for line in lines(tiny.workdir, stage)]
        assert set(steps) >= set(logged) and steps == sorted(steps)
        assert list((tiny.workdir / "tensorboard" / stage).iterdir())
        assert (tiny.workdir / "checkpoints" / stage / str(logged[-1])).is_dir()
    assert {row["step"] for row in lines(tiny.workdir, "ppo", "samples.jsonl")} == {1, *range(2, 13, 2)}
    measured = json.loads((tiny.workdir / "eval.json").read_text())
    assert measured["problems"] == 16 and measured["rows"].keys() == measured["prm"].keys() == {"sft", "ppo"}
    page = (tiny.workdir / "report.html").read_text()
    assert page.rstrip().endswith("</html>") and "ppo" in page


def test_the_same_command_again_only_measures(tiny: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workdir = tiny.copy(tmp_path / "run")
    compiled: list[str] = []
    sampled: list[int] = []
    compiling, sampling = Program.compile, ResponseSampler.__call__

    def compile(self: Program):
        if self.compile_seconds is None:
            compiled.append(self.name)
        return compiling(self)

    def sample(self: ResponseSampler, *args, **kwargs):
        sampled.append(self.shape.rows)
        return sampling(self, *args, **kwargs)

    monkeypatch.setattr(Program, "compile", compile)
    monkeypatch.setattr(ResponseSampler, "__call__", sample)
    before = {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file() and p.parent.name != "run"}
    logged = {name: (workdir / name).read_bytes() for name in ("config.json", "metrics.jsonl", "samples.jsonl")}
    measured = json.loads((workdir / "eval.json").read_text())
    start = time.perf_counter()
    assert stepjax("sft", tiny.config, workdir) == stepjax("prm", tiny.config, workdir) == 0
    assert stepjax("ppo", tiny.config, workdir) == 0
    assert not compiled and not sampled
    print(f"three finished stages: {time.perf_counter() - start:.1f} s")
    assert stepjax("quickstart", tiny.config, workdir) == 0
    assert sorted(compiled) == ["prm_score", "rollout"] and sampled == [16, 16]
    assert {p: p.read_bytes() for p in before} == before
    assert {name: (workdir / name).read_bytes() for name in logged} == logged
    again = json.loads((workdir / "eval.json").read_text())
    assert {**again, "seconds": 0} == {**measured, "seconds": 0}

"""`stepjax sample` with a tiny run's policies: what a record holds, continuing, other policies, mistakes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from runs.tiny_run import TinyRun, stepjax

from stepjax.data.schema import LabelledSolution
from stepjax.labels.sources import named_records
from stepjax.options import parse
from stepjax.runs.opening import open_run
from stepjax.runs.stages import policy_params
from stepjax.steps import StepSplitter
from stepjax.tasks.base import Task

SMALL = ("--config.problems=5", "--config.samples=3", "--config.rows=4")


def read(path: Path) -> list[LabelledSolution]:
    return [LabelledSolution.from_json(json.loads(row)) for row in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(tiny: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.copy(tmp_path_factory.mktemp("sample") / "run")


@pytest.fixture(scope="module")
def sampled(tiny: TinyRun, folder: Path) -> Path:
    assert stepjax("sample", tiny.config, folder, *SMALL, "--config.prm=True") == 0
    return folder / "samples" / "ppo-test.jsonl"


def test_a_record_holds_what_was_sampled_and_its_grade(tiny: TinyRun, folder: Path, sampled: Path) -> None:
    config, workdir = parse([f"--config={tiny.config}", f"--workdir={folder}"])
    with open_run(config, workdir, kinds=()) as run:
        problems, splitter, task = run.task.problems("test"), run.splitter, run.task
        logits = _logits(run)
        ends = {run.tokenizer.convert_ids_to_tokens(i) for i in run.framing.ends}
    records = read(sampled)
    assert [r.id for r in records] == [f"{problems[i].id}/{j}" for i in range(5) for j in range(3)]
    for i, record in enumerate(records):
        problem, extra = problems[i // 3], record.extra
        assert (record.problem, record.answer) == (problem.text, problem.answer)
        _check_steps(splitter, task, record)
        assert (extra["end"] in ends) == (extra.get("unfinished") is None)
        assert record.correct == (extra["end"] is not None and task.grade(problem, extra["text"]))
        assert len(extra["prm"]) == len(extra["step_ratings"]) == len(record.steps)
        assert all(0 <= p <= 1 for p in extra["prm"])
        assert extra["logprob"] == pytest.approx(sum(extra["token_logprobs"]), abs=1e-4)
        expected = logits(extra["prompt_tokens"], extra["tokens"])
        np.testing.assert_allclose(extra["token_logprobs"], expected, atol=1e-4)


def _check_steps(splitter: StepSplitter, task: Task, record: LabelledSolution) -> None:
    texts = [text.strip() for text in splitter.texts(record.extra["tokens"])]
    assert texts == list(record.steps)


def _logits(run):  # type: ignore[no-untyped-def]
    import jax
    import jax.numpy as jnp

    params = policy_params(run, "ppo")
    model = run.policy.bind(params)

    def logprobs(prompt: list[int], tokens: list[int]) -> np.ndarray:
        row = jnp.array([[*prompt, *tokens]])
        found = jax.nn.log_softmax(model(row), -1)[0]
        return np.array([found[len(prompt) + i - 1, t] for i, t in enumerate(tokens)])

    return logprobs


def test_a_file_that_was_cut_off_is_continued_with_the_same_responses(
    tiny: TinyRun, folder: Path, sampled: Path, tmp_path: Path
) -> None:
    whole = sampled.read_bytes()
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(b"".join(whole.splitlines(keepends=True)[:7]) + b'{"torn": ')
    cut.with_suffix(".options.json").write_bytes(sampled.with_suffix(".options.json").read_bytes())
    again = (*SMALL, "--config.prm=True", f"--config.out={cut}")
    assert stepjax("sample", tiny.config, folder, *again) == 0
    same = [(r.id, r.extra["tokens"]) for r in read(cut)]
    assert same == [(r.id, r.extra["tokens"]) for r in read(sampled)]
    before = cut.read_bytes()
    assert stepjax("sample", tiny.config, folder, *again) == 0
    assert cut.read_bytes() == before, "nothing is sampled twice"


def test_the_records_are_solutions_to_label(sampled: Path) -> None:
    assert [r.id for r in named_records(str(sampled))] == [r.id for r in read(sampled)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--config.temperature=0",), "config.sample.temperature: at 0 all responses to a problem are the same"),
        (("--config.sample.seed=1", "--config.prm=True"), "made with seed=0, not 1; name another config.sample.out"),
        (("--config.stage=sft", "--config.prm=True", "--config.out=OUT"), "policy='ppo"),
        (("--config.min_new_tokens=500",), "config.sample.min_new_tokens: must be below max_new_tokens"),
    ],
)
def test_mistakes_take_one_line(
    tiny: TinyRun, folder: Path, sampled: Path, capfd: pytest.CaptureFixture, arguments: tuple[str, ...], said: str
) -> None:
    given = [a.replace("OUT", str(sampled)) for a in arguments]
    assert stepjax("sample", tiny.config, folder, *SMALL, *given) == 2
    error = capfd.readouterr().err
    assert said in error and "Traceback" not in error


def test_a_copy_continues_the_file_that_lies_in_it(tiny: TinyRun, folder: Path, sampled: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    again = ("sample", tiny.config, copy, *SMALL, "--config.prm=True")
    assert stepjax(*again) == 0
    assert (copy / "samples" / sampled.name).read_bytes() == sampled.read_bytes(), "nothing is sampled twice"
    weights = json.loads(sampled.with_suffix(".options.json").read_text())["weights"]
    assert set(weights) == {"ppo", "prm"} and len({*weights.values()}) == 2


def test_another_run_does_not_continue_the_file(
    tiny: TinyRun, sampled: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    """Its responses have the same names, and would count as sampled already."""
    other, before = tiny.copy(tmp_path / "other"), sampled.read_bytes()
    assert stepjax("sample", tiny.config, other, *SMALL, "--config.prm=True", f"--config.out={sampled}") == 2
    assert "was made with workdir=" in capfd.readouterr().err and sampled.read_bytes() == before

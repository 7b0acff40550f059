"""`stepjax export --config.export.what=conversations` on a tiny run, and a smaller policy that learns from its file."""

import json
from pathlib import Path

import pytest
from runs.tiny_run import OPTIONS, TinyRun, lines, stepjax, write_config

from stepjax.cli import main
from stepjax.data.schema import LabelledSolution
from stepjax.tasks.register_chain import RegisterChain, RegisterChainConfig

RATED = RegisterChain(RegisterChainConfig(**{k.split(".")[-1]: v for k, v in OPTIONS.items() if "register_chain" in k}))


@pytest.fixture(scope="module")
def responses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Solutions of a task's own as `stepjax sample` would have sampled them: clean ones, noisy ones, wrong ones."""
    path = tmp_path_factory.mktemp("responses") / "sampled.jsonl"
    rows = []
    for problem in RATED.problems("train")[:60]:
        for number, text in enumerate((RATED.clean_solution(problem), problem.solution)):
            steps = text.split("\n")
            rated = [j.rating for j in RATED.rate_steps(problem, steps)]
            extra = {"text": text, "step_ratings": rated, "prm": [0.9 if r > 0 else 0.2 for r in rated]}
            correct, name = RATED.grade(problem, text), f"{problem.id}/{number}"
            record = LabelledSolution(
                problem.text, tuple(steps), answer=problem.answer, correct=correct, id=name, extra=extra
            )
            rows.append(json.dumps(record.to_json()) + "\n")
    path.write_text("".join(rows))
    return path


def exported(tiny: TinyRun, responses: Path, out: Path, *arguments: str) -> int:
    argv = ("--config.what=conversations", f"--config.responses={responses}", f"--config.out={out}", *arguments)
    return main(["export", f"--workdir={tiny.workdir}", *argv])


def test_responses_become_conversations(
    tiny: TinyRun, responses: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "conversations.jsonl"
    assert exported(tiny, responses, out, "--config.least_score=0.5", "--config.per_problem=1") == 0
    told = capsys.readouterr()
    assert "right answers with a wrong step: " in told.out + told.err and "before, 0.0% after" in told.out + told.err
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    problems = {p.text: p for p in RATED.problems("train")[:60]}
    assert len({row["messages"][0]["content"] for row in rows}) == len(rows) == len(problems)
    for row in rows:
        user, assistant = row["messages"]
        problem = problems[user["content"]]
        assert (user["role"], assistant["role"], row["answer"]) == ("user", "assistant", problem.answer)
        assert RATED.grade(problem, assistant["content"])


@pytest.mark.slow
def test_a_smaller_policy_learns_from_conversations(
    tiny: TinyRun, responses: Path, tmp_path: Path, compiled_once: Path
) -> None:
    out = tmp_path / "conversations.jsonl"
    assert exported(tiny, responses, out, "--config.tries=mask") == 0
    small = {name: value for name, value in OPTIONS.items() if not name.startswith("task.")} | {
        "task.name": "jsonl",
        "task.jsonl.train": str(out),
        "task.jsonl.answer_prefix": "?",
        "task.separator": "\n",
        "tokenizer.path": str(tiny.workdir / "tokenizer"),
        "model.layers": 1,
        "sft.updates": 4,
        "sft.log_every": 1,
    }
    config = write_config(tmp_path / "small.py", small)
    assert stepjax("sft", config, tmp_path / "small") == 0
    losses = [line["loss"] for line in lines(tmp_path / "small", "sft")]
    assert len(losses) == 4 and losses[-1] < losses[0]


def test_mistakes_are_one_line_and_write_nothing(
    tiny: TinyRun, responses: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "there.jsonl"
    there.write_text("mine")
    new = tmp_path / "new.jsonl"
    for out, arguments, told in (
        (there, (), f"config.export.out={there}: this file is there already"),
        ("", (), "name the file to write"),
        (new, ("--push=me/mine",), "config.export.push: it is for policies"),
        (new, ("--config.responses=",), "samples/ppo-train.jsonl: no such file; make it by `stepjax sample"),
        (new, (f"--config.responses={tmp_path}/none.jsonl",), "none.jsonl: no such file"),
        (new, ("--config.least_score=0.95",), "config.export: no response passes the filters; nothing is written"),
        (new, ("--config.tries=all",), "must be one of learn, mask, drop, not 'all'"),
    ):
        assert exported(tiny, responses, Path(out) if out else out, *arguments) == 2  # type: ignore[arg-type]
        error = capsys.readouterr().err
        assert told in error and "Traceback" not in error and not new.exists(), told
    assert there.read_text() == "mine"
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(responses.read_bytes()[:-40])
    assert exported(tiny, cut, new) == 2 and "the last row is cut off" in capsys.readouterr().err

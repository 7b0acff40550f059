"""`stepjax eval --config.suite=…`: benchmarks from files, with a policy of a run and with a checkpoint alone."""

import json
from pathlib import Path

import numpy as np
import pytest
from models.family_cases import CASES, write_checkpoint
from runs.tiny_run import TinyRun, stepjax

from stepjax.cli import main
from stepjax.data.dataset import Records
from stepjax.errors import UserError
from stepjax.evaluation.suite import overlap, training_texts
from stepjax.measures.benchmark import figure
from stepjax.tasks.benchmarks import BENCHMARKS, BenchmarkProblems, members_of
from stepjax.tasks.files import FileProblems
from stepjax.tasks.graders import MarkedGrader
from stepjax.tasks.register_chain import build_tokenizer

PROBLEMS = [("a=3;b=a+1;?b", "4"), ("a=2;b=a+1;?b", "3"), ("a=1;b=a+1;?b", "2"), ("a=1;?a", "1")]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with two benchmarks in the public sets' fields."""
    folder = tmp_path / "data"
    (folder / "gsm8k").mkdir(parents=True)
    rows = [{"question": q, "answer": f"So.\n#### {a}"} for q, a in PROBLEMS]
    (folder / "gsm8k" / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = [{"problem": q, "answer": a, "subject": "x"} for q, a in PROBLEMS[:2]]
    (folder / "math500.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def suite_of(workdir: Path) -> dict:
    return json.loads((workdir / "eval.json").read_text())["measures"]["suite"]["members"]


@pytest.mark.slow
def test_a_run_is_measured_and_a_second_call_goes_on(tiny: TinyRun, tmp_path, data, capsys, compiled_once):
    workdir = tiny.copy(tmp_path / "run")
    before = json.loads((workdir / "eval.json").read_text())
    options = (f"--config.suite_data={data}", "--config.suite_samples=4", "--config.suite_tokens=24")
    assert stepjax("eval", tiny.config, workdir, "--config.suite=gsm8k,math500", *options) == 0
    shown = capsys.readouterr().out
    assert "gsm8k, ppo: 4 problems × 4, temperature 1" in shown and "math500, ppo: 2 problems × 4" in shown
    assert "pass@4" in shown and "maj@2" in shown and "the policy first reads" in shown
    found = suite_of(workdir)
    assert list(found) == ["gsm8k", "math500"]
    of = found["gsm8k"]["ppo"]
    path = workdir / of["responses"]
    records = list(Records(str(path)))
    assert [r.id for r in records] == [f"test/{p}/{k}" for p in range(4) for k in range(4)]
    assert [r.answer for r in records[::4]] == [a for _, a in PROBLEMS]
    right = np.array([r.correct for r in records]).reshape(4, 4)
    assert of["avg"] == figure(right.mean(1)) and of["pass"][-1] == figure(right.any(1).astype(float))
    assert of["truncated"] == np.mean([r.extra.get("unfinished", False) for r in records])
    assert {k: v for k, v in json.loads((workdir / "eval.json").read_text()).items() if k != "measures"} == before
    report = (workdir / "report.html").read_text()
    assert "Benchmarks" in report and "maj@4" in report

    # A killed call: half of its lines, the last one cut off. The next one ends with the same responses.
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert stepjax("eval", tiny.config, workdir, "--config.suite=gsm8k", *options) == 0
    assert path.read_bytes() == whole
    # The other stage joins the figures; another seed replaces its own.
    one = ("--config.suite=gsm8k", "--config.suite_stage=sft", "--config.suite_problems=2")
    assert stepjax("eval", tiny.config, workdir, *one, *options) == 0
    assert set(suite_of(workdir)["gsm8k"]) == {"ppo", "sft"} and suite_of(workdir)["gsm8k"]["ppo"]["avg"] == of["avg"]
    assert "gsm8k: the first 2 of 4 problems." in capsys.readouterr().out
    assert stepjax("eval", tiny.config, workdir, "--config.suite=gsm8k", "--config.eval.seed=7", *options) == 0
    assert path.read_bytes() != whole and suite_of(workdir)["gsm8k"]["ppo"]["seed"] == 7


def test_a_checkpoint_alone(tmp_path, data, capsys):
    model = write_checkpoint(tmp_path / "model", CASES["qwen2-linear"])
    build_tokenizer().save_pretrained(str(model))
    workdir = tmp_path / "run"
    suite = f"--config.suite=own={data / 'math500.jsonl'}"
    options = [f"--config.model.path={model}", "--config.suite_tokens=8", "--config.eval.rows=8"]
    assert main(["eval", f"--workdir={workdir}", suite, *options]) == 0
    found = suite_of(workdir)["own"]["sft"]
    assert found["policy"] == str(model) and found["problems"] == 2 and found["samples"] == 1
    assert found["avg"]["interval"] == "wilson" and found["pass"] == [found["avg"]]
    assert "own, sft: 2 problems × 1" in capsys.readouterr().out
    # Remembered: the work directory knows the model.
    assert main(["eval", f"--workdir={workdir}", suite, *options[1:]]) == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--config.suite=gsm8"], "config.eval.suite: no benchmark 'gsm8' (did you mean 'gsm8k'?)"),
        (["--config.suite=,"], "config.eval.suite: names no benchmark"),
        (["--config.kind=suite"], "config.eval.suite: names no benchmark"),
        (["--config.suite=gsm8k", "--config.kind=prm"], "config.eval.suite: kind=prm does not read it"),
        (["--config.suite=no/such.jsonl"], "no/such.jsonl: no such file"),
        (["--config.suite=aime24"], "config.eval.suite: aime24 is not on this machine, and hub:HuggingFaceH4"),
        (["--config.suite=gsm8k=a.jsonl,gsm8k=b.jsonl"], "two entries are called gsm8k"),
        (["--config.suite=gsm8k", "--config.suite_samples=2", "--config.eval.temperature=0.0"], "are the same; raise"),
    ],
)
def test_mistakes_are_one_line(tiny: TinyRun, tmp_path, data, capsys, options, words):
    workdir = tiny.copy(tmp_path / "run")
    capsys.readouterr()
    assert stepjax("eval", tiny.config, workdir, f"--config.suite_data={data}", *options) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and words in told, told


def test_where_benchmarks_are_found(data, tmp_path):
    gsm8k, aime = members_of("gsm8k, aime24", str(data))
    assert gsm8k.source == str(data / "gsm8k" / "test.jsonl") and not gsm8k.absent and gsm8k.tokens == 512
    assert (aime.source, aime.split, aime.absent) == (BENCHMARKS["aime24"].hub, "train", True)
    own, hub, test = members_of(f"own/set.jsonl.gz,hub:owner/name:part,{data / 'gsm8k' / 'test.jsonl'}", "")
    assert (own.name, hub.name, test.name) == ("set", "name-part", "gsm8k")
    with pytest.raises(UserError, match="known are gsm8k, math500"):
        members_of("", "")


def test_the_right_answers_are_those_that_are_marked(data):
    class Whole(MarkedGrader):
        whole_answers = True  # as a grader of the user's

    (member,) = members_of("gsm8k", str(data))
    task = BenchmarkProblems(member, template="Q: {problem}\n", separator="\n", grader=Whole())
    assert [(p.text, p.answer) for p in task.all()] == PROBLEMS and task.all()[0].prompt == "Q: a=3;b=a+1;?b\n"


def test_problems_of_the_training_data_are_told(data):
    class Own:
        task: FileProblems

    (member,) = members_of("gsm8k", str(data))
    problems = BenchmarkProblems(member, template="{problem}\n", separator="\n", grader=MarkedGrader()).all()
    rows = [{"problem": q.upper() + " ", "answer": a} for q, a in [*PROBLEMS[1:2], ("other", "1")]]
    (data / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Own.task = FileProblems(data / "train.jsonl", data / "math500.jsonl")
    known = training_texts(Own)
    right, notes = np.array([[True], [True], [False], [False]]), []
    assert overlap(problems, right, known, notes) == {"in_training": 1, "avg_without": pytest.approx(1 / 3)}
    assert notes == ["1 of the 4 problems are in the training data; without them 33.3% are right"]
    assert overlap(problems[:1], right[:1], known, notes) == {"in_training": 0} and len(notes) == 1

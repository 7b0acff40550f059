"""A problem of the user's: how it is asked, and what is shown of the response."""

import re

import pytest
from runs.tiny_run import TinyRun

from stepjax.cli import main
from stepjax.errors import UserError
from stepjax.sample.arguments import take_problem

TEXT = "b=2;c=b+1;?c"


def test_a_problem_and_its_answer():
    assert take_problem(["--config.seed=1"]) == (None, "", ["--config.seed=1"])
    assert take_problem([f"--problem={TEXT}", "--workdir=a"]) == (TEXT, "", ["--workdir=a"])
    assert take_problem(["--answer", "3", "--problem", TEXT]) == (TEXT, "3", [])


@pytest.mark.parametrize("argv", [["--problem"], ["--problem="], ["--problem= "], ["--answer=3"]])
def test_mistakes_are_one_line(argv):
    with pytest.raises(UserError, match=r"^--(problem: no text|answer: it is the answer to a)"):
        take_problem(argv)


def test_responses_are_shown_step_by_step(tiny: TinyRun, capsys) -> None:
    before = sorted(path.name for path in tiny.workdir.rglob("*"))
    line = ["sample", f"--workdir={tiny.workdir}", f"--problem={TEXT}", "--answer=3", "--config.samples=2"]
    assert main(line) == 0
    lines = capsys.readouterr().out.splitlines()
    heads = [i for i, text in enumerate(lines) if re.fullmatch("(right|wrong)(, cut off)?", text)]
    assert "stage ppo" in lines and len(heads) == 2
    for head in heads:
        assert lines[head + 1] == "  right answer: 3"
        assert re.match(r"    1  [✓○✗] [01]\.\d\d  \S", lines[head + 2]), "exact rating, P(right), text"
    assert main([*line[:3], "--config.samples=2"]) == 0
    again = capsys.readouterr().out.splitlines()
    assert [x for x in again if x[:4] == "    "] == [x for x in lines if x[:4] == "    "], "the same seed"
    assert not any(re.match("right|wrong", x) for x in again), "without an answer nothing is graded"
    assert sorted(path.name for path in tiny.workdir.rglob("*")) == before, "nothing is written"

"""Responses in a terminal: which ones, and what of them."""

import json
from pathlib import Path

import pytest

from stepjax.cli import main

ROWS = {
    "fine": {"correct": True, "steps": ["a=1", "?1"], "extra": {"prm": [0.9, 0.8], "step_ratings": [1, 1]}},
    "lucky": {"correct": True, "steps": ["a=2", "?1"], "extra": {"prm": [0.3, 0.8], "step_ratings": [-1, 1]}},
    "fooled": {"correct": False, "steps": ["a=2", "?2"], "extra": {"prm": [0.7, 0.2], "step_ratings": [-1, -1]}},
    "cut": {"correct": False, "steps": ["a=1", "b=1"], "extra": {"unfinished": True, "step_ratings": [1, 0]}},
    "again": {"correct": False, "steps": ["so a=1", "so a=1", "?3"], "extra": {"step_ratings": [1, 0, -1]}},
    "trusted": {"correct": False, "steps": ["c"], "extra": {"prm": [0.9]}},
    "doubted": {"correct": True, "steps": ["c", "d"], "extra": {"prm": [0.9, 0.4]}},
    "trivial": {"correct": True, "steps": ["<<1=1>>1"], "extra": {}},
    "silent": {"correct": None, "steps": [], "extra": {}},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run" / "responses" / "ppo-test.jsonl"
    path.parent.mkdir(parents=True)
    rows = [{"id": name, "problem": f"the {name} one", "answer": "1", **row} for name, row in ROWS.items()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def shown(capsys, *argv: str) -> tuple[list[str], str]:
    """Names of the responses that are shown, and the last line."""
    assert main(["show", "responses", *argv]) == 0
    lines = capsys.readouterr().out.splitlines()
    return [line.partition(",")[0] for line in lines if line.partition(",")[0] in ROWS], lines[-1]


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ([], list(ROWS)),
        (["--wrong"], ["fooled", "cut", "again", "trusted"]),
        (["--right"], ["fine", "lucky", "doubted", "trivial"]),
        (["--truncated"], ["cut"]),
        (["--wrong-step"], ["lucky"]),
        (["--disagrees"], ["fooled", "trusted", "doubted"]),
        (["--alarm"], ["again", "trivial", "silent"]),
        (["--wrong", "--disagrees"], ["fooled", "trusted"]),
        (["--wrong", "--right"], []),
    ],
)
def test_filters(file, capsys, filters, names):
    found, last = shown(capsys, str(file), *filters)
    which = f" ({', '.join(name[2:] for name in filters)})" if filters else ""
    assert found == names and last == f"{len(names)} of 9 responses{which}"


def test_of_a_work_directory_and_only_some(file, capsys):
    found, last = shown(capsys, str(file.parents[1]), "--limit=2")
    assert found == ["fine", "lucky"] and last == "9 of 9 responses; --limit=9 shows all, the first 2 are above"
    assert len(shown(capsys, str(file), "--limit=0")[0]) == 9


def test_steps_have_a_line_each_with_rating_and_score(file, capsys):
    assert main(["show", "responses", str(file), "--wrong-step"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:6] == [
        "lucky, right",
        "  the lucky one",
        "  right answer: 1",
        "    1  ✗ 0.30  a=2",
        "    2  ✓ 0.80  ?1",
    ]
    assert main(["show", "responses", str(file), "--truncated"]) == 0
    assert "cut, wrong, cut off" in capsys.readouterr().out.splitlines()


def test_texts_of_models_cannot_colour_the_terminal(file, capsys):
    file.write_text(json.dumps({"problem": "\x1b[2Jp", "steps": ["\x1b[31mred\nsecond line"], "correct": True}) + "\n")
    assert main(["show", "responses", str(file)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "[31mred" in out and f"{'':>15}second line" in out


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        ([], "name one file or work directory"),
        (["a", "b"], "name one file or work directory"),
        (["nowhere.jsonl"], "nowhere.jsonl: no such file"),
        ([".", "--wrogn"], "--wrogn: no such option (did you mean '--wrong'?)"),
        ([".", "--limit=x"], "--limit=x: must be a whole number"),
        (["."], "no responses there; `stepjax eval --workdir=.`"),
    ],
)
def test_mistakes_are_one_line(argv, why, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["show", "responses", *argv]) == 2
    error = capsys.readouterr().err
    assert why in error and error.count("\n") == 1

"""The battery and the alarms in the report: whole with any part missing, and no way in for a model's text."""

import json

from report.report_fixture import HOSTILE, write_workdir
from report.test_page import report

from stepjax.report.hacks import Cell, examples, payments


def change(mean, low, high, rises, raised):
    return {"mean": mean, "low": low, "high": high, "rises": rises, "raised": raised, "push": {}}


HACKS = {
    "problems": 2,
    "sets": {
        "exact": {
            "solutions": 512,
            "edits": {
                "repeat": {"written": 2, "example": {"prompt": "?", "before": "a", "after": "a\na"}},
                HOSTILE: {"written": 2, "example": {"prompt": HOSTILE, "before": HOSTILE, "after": HOSTILE}},
            },
            "returns": {
                "model": {
                    "sum sigmoid": {"return": 1.0, "edits": {"repeat": change(0.5, 0.4, 0.6, 0.97, True)}},
                    HOSTILE: {"return": 1.0, "edits": {HOSTILE: change(-0.25, -0.5, 0.0, 0.0, False)}},
                },
                "exact": {},
            },
        },
    },
    "notes": [HOSTILE],
}


def test_tables_of_the_battery():
    table = payments(HACKS)[0]
    assert table.title == "512 exact solutions, paid by the reward model"
    assert table.edits == [("repeat", "a step repeated"), (HOSTILE, "")]
    raised, unknown = table.rows[0][1]
    assert raised == Cell("+0.5", "0.4 to 0.6", "rises in 97.0%", True) and unknown == Cell("–", "", "", False)
    assert table.rows[1][1][1] == Cell("−0.25", "−0.5 to 0", "rises in 0.0%", False)
    assert [e.name for e in examples(HACKS)] == ["repeat", HOSTILE]


def test_hostile_text_is_escaped(tmp_path):
    folder = write_workdir(tmp_path / "run", iterations=20)
    (folder / "hacks.json").write_text(json.dumps(HACKS))
    with open(folder / "metrics.jsonl", "a") as file:
        alarm = {"step": 20, "stage": "ppo", "hack/repeated": 0.4, "hack/alarms": 1, "hack/alarm": [HOSTILE]}
        file.write(json.dumps(alarm) + "\n")
    text, page = report(folder)
    assert "Edits that add nothing" in page.words and "a step repeated" in text
    assert "Alarm at iteration 20: <script>alert" in page.words, "shown as text"
    assert "<script>alert" not in text and "<img src=x" not in text
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert "\u202e" not in text and "\x1b" not in text


def test_any_part_may_be_missing_or_odd(tmp_path):
    odd = (
        {},
        {"sets": []},
        {"sets": {"exact": None}},
        {"sets": {"exact": {"returns": {"model": {"a": {"edits": 3}}}}}},
        {"sets": {"exact": {"edits": {"x": {"example": 5}}, "returns": {"model": {"a": {"edits": {"x": {}}}}}}}},
    )
    for i, hacks in enumerate(odd):
        folder = write_workdir(tmp_path / str(i), iterations=5)
        (folder / "hacks.json").write_text(json.dumps(hacks))
        report(folder)

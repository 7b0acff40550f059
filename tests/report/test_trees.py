"""The page of a search: the chosen path stands out, what does not fit is said, and a file may hold anything."""

import json

import pytest
from report.report_fixture import write_workdir

from stepjax.report.page import write_report
from stepjax.report.trees import MOST_DEPTH, MOST_NODES, render, shown, write_search


def node(parent, text, value=None, visits=0, q=None, end="step", count=1):
    return {"parent": parent, "text": text, "value": value, "visits": visits, "q": q, "end": end, "count": count}


TREE = [
    node(-1, "", visits=5, q=0.5),
    node(0, "b=1+1=3\n", 0.1, 2, 0.05),
    node(0, "b=1+1=2\n", 0.9, 3, 0.8, count=3),
    node(1, "?3", 0.0, 1, 0.0, "response"),
    node(2, "?2", 1.0, 2, 1.0, "response"),
    node(2, "b=9", end="cut"),
]


def record(tree=TREE, correct=True, **more):
    candidates = [
        {"node": 3, "share": 1, "score": 0.0, "answer": 0, "correct": False},
        {"node": 4, "share": 3, "score": 1.0, "answer": 1, "correct": True},
    ]
    found = {
        "method": "puct", "prm": "learned", "oracle": False, "candidates": candidates, "weights": {"0": 0.0, "1": 3.0},
        "chosen": 1, "any_right": True, "path": [0, 2, 4],
        "cost": {"generated": 20, "prefilled": 5, "computed_again": 0, "read": 12, "flops": 1.5e6},
    } | more  # fmt: skip
    extra = {"search": found, "tree": tree}
    return {"id": "test/0", "problem": "b=1+1;?b", "answer": "2", "correct": correct, "extra": extra}


def test_the_chosen_path_values_and_visits():
    found = shown(record())
    wrong, right = found.first
    assert (str(wrong.text), wrong.tone, wrong.chosen) == ("b=1+1=3", -4, False)
    assert (right.tone, right.chosen, right.told) == (
        2,
        True,
        "value 0.9, 3 visits of 5, backed up 0.8, sampled 3 times",
    )
    end, cut = right.children
    assert (end.chosen, end.end, cut.end, cut.tone, cut.told) == (True, "end", "cut off", None, "")
    assert found.cost == "tokens: 20 written, 5 prefilled, 12 read to score; 1.5e+06 FLOPs"
    assert [(str(c.text), c.weight, c.correct, c.chosen) for c in found.candidates] == [
        ("?2", "3", True, True),
        ("?3", "0", False, False),
    ]


def test_a_large_tree_shows_the_chosen_path_and_what_was_visited_most():
    wide = [node(-1, "", visits=900, q=0.1), *(node(0, f"{i}", 0.1, i, 0.1) for i in range(400))]
    found = shown(record(wide, path=[0, 1]))
    assert len(found.first) == MOST_NODES and found.hidden == 400 - MOST_NODES
    assert found.first[0].chosen and {str(n.text) for n in found.first[1:]} == {str(i) for i in range(241, 400)}
    deep = [node(i - 1, str(i)) for i in range(5000)]
    at, depth = shown(record(deep)).first, 0
    while at:
        at, depth, hidden = at[0].children, depth + 1, at[0].hidden
    assert depth == MOST_DEPTH and hidden == 1


@pytest.mark.parametrize(
    "tree",
    [None, [], [3], [node(-1, ""), node(5, "x")], [node(-1, ""), node(0, None, "a", [], {}, 3, "b")], [node(0, "x")]],
)
def test_a_file_may_hold_anything(tree):
    found = record(
        tree, candidates=[3, {"node": 99}, {"node": "x", "score": float("nan")}], weights=[], path=3, cost=[]
    )
    assert "test/0" in render("x", [found, {}, {"extra": {"search": 1, "tree": {}}}])


def test_texts_of_a_model_are_escaped():
    bad = "<script>alert(1)</script>\u202e"
    page = render(bad, [record([node(-1, ""), node(0, bad, 0.5, 1, 0.5, "response")], path=[0, 1])])
    assert "<script>alert" not in page and "\u202e" not in page and "&lt;script&gt;" in page


def test_the_page_of_a_file_stands_beside_it_and_the_report_names_it(tmp_path):
    folder = write_workdir(tmp_path / "run", iterations=2)
    (folder / "search").mkdir()
    path = folder / "search" / "puct-test.jsonl"
    path.write_text(json.dumps(record()) + "\n" + json.dumps(record())[:50])
    page = write_search(path)
    text = page.read_text()
    assert page.name == "puct-test.html" and "1 of 1 problems right with puct" in text and "is cut off" in text
    assert write_search(path) == page, "a page of a search is replaced"
    other = path.with_name("report.jsonl")
    other.write_bytes(path.read_bytes())
    (path.parent / "report.html").write_text("mine")
    assert write_search(other).name == "report.jsonl.html" and (path.parent / "report.html").read_text() == "mine"
    (path.parent / "report.html").unlink()
    (path.parent / "report.jsonl.html").unlink()
    assert '<a href="search/puct-test.html">puct-test</a>' in write_report(folder).read_text()

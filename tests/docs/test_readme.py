"""The README: short enough for five minutes, and with no figure of its own."""

import re

from docs.pages import ROOT, blocks, text_of

README = ROOT / "README.md"
MOST_WORDS = 1500


def test_it_is_short():
    assert len(re.findall(r"\w+", text_of(README))) <= MOST_WORDS


def test_it_shows_how_to_run_and_to_test():
    (run,) = [block for block in blocks(README, "sh") if "stepjax quickstart" in block]
    (test,) = [block for block in blocks(README, "sh") if "pytest" in block]
    assert "```sh run\n" + run in text_of(README) and "```sh test\n" + test in text_of(README)
    for block in (run, test):
        assert block.startswith("python3 -m venv .venv\n.venv/bin/pip install ")


def test_every_row_of_its_results_stands_in_the_docs():
    results = text_of(README).split("\n## Results\n")[1]
    rows = [line for line in results.splitlines() if line.startswith("|") and not line.startswith("| ---")]
    docs = text_of(ROOT / "docs" / "results.md") + text_of(ROOT / "docs" / "speed.md")
    assert len(rows) > 10
    for row in rows:
        assert f"\n{row}\n" in docs, row

"""Rows of files as responses: samples, candidates of searches, forms of one's own."""

import json
from pathlib import Path

import pytest
from distil.test_worth_learning import RECORDS, RIGHT, response, written
from runs.tiny_run import TinyRun, stepjax

from stepjax.distil import readers
from stepjax.distil.readers import read_responses
from stepjax.errors import UserError
from stepjax.options import parse
from stepjax.runs.opening import open_run


def test_other_forms_are_read_by_readers_of_their_own(tmp_path, monkeypatch):
    class Trees:
        """A row of a tree gives one response a leaf."""

        def fits(self, row):
            return "leaves" in row

        def read(self, row, place, run):
            return [response(k, tuple(steps), right) for k, (steps, right) in enumerate(row["leaves"])]

    path = written(tmp_path / "mixed.jsonl", RECORDS[0].to_json(), {"leaves": [[RIGHT, True], [["?3"], False]]})
    with pytest.raises(UserError, match=r"mixed\.jsonl:2: neither a response nor a tree; name a file of"):
        list(read_responses(path, None))
    monkeypatch.setattr(readers, "READERS", (*readers.READERS, Trees()))
    assert [r.correct for r in read_responses(f"{path}, {path}", None)] == [True, True, False] * 2
    bad = written(tmp_path / "bad.jsonl", {"problem": "p", "steps": ["x"], "correct": "yes"})
    with pytest.raises(UserError, match=r"^[^\n]*bad\.jsonl:1: correct: must be true, false or null, not 'yes'$"):
        list(read_responses(bad, None))
    with pytest.raises(UserError, match="no such file"):
        list(read_responses(str(tmp_path / "none.jsonl"), None))


@pytest.mark.slow
def test_every_candidate_of_a_search_is_a_response(tiny: TinyRun, tmp_path: Path) -> None:
    """The chosen one is what the record itself says."""
    workdir, file = tiny.copy(tmp_path / "run"), tmp_path / "found.jsonl"
    small = ("--config.method=beam", "--config.n=4", "--config.width=2", "--config.problems=3", f"--config.out={file}")
    assert stepjax("search", tiny.config, workdir, *small) == 0
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    config, _ = parse([f"--config={tiny.config}", f"--workdir={workdir}"])
    with open_run(config, workdir, kinds=()) as run:
        found = list(read_responses(str(file), run))
    at = 0
    for row in rows:
        extra = row["extra"]
        count = len(extra["search"]["candidates"])
        some, at = found[at : at + count], at + count
        assert [r.correct for r in some] == [c["correct"] for c in extra["search"]["candidates"]]
        assert len({r.id for r in some}) == count and {r.problem for r in some} == {row["problem"]}
        chosen = some[extra["search"]["chosen"] or 0]
        assert (list(chosen.steps), chosen.extra["text"]) == (row["steps"], extra["text"])
        assert (chosen.extra["prm"], chosen.extra["step_ratings"]) == (extra["prm"], extra["step_ratings"])
        assert chosen.extra["unfinished"] == extra.get("unfinished", False)
    assert at == len(found) > 3
    del rows[0]["extra"]["tree"][0]["parent"]
    with pytest.raises(UserError, match=r"^[^\n]*broken\.jsonl:1: not a tree that `stepjax search` wrote \([^\n]*\)$"):
        list(read_responses(written(tmp_path / "broken.jsonl", rows[0]), run))

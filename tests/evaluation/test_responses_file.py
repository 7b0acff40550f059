"""The responses that an evaluation leaves: what its figures are made of."""

import json

import numpy as np
from runs.tiny_run import TinyRun

from stepjax.data.dataset import Records


def test_an_evaluation_writes_its_responses(tiny: TinyRun) -> None:
    figures = json.loads((tiny.workdir / "eval.json").read_text())["rows"]
    for stage in ("sft", "ppo"):
        path = tiny.workdir / "responses" / f"{stage}-test.jsonl"
        records = list(Records(str(path)))
        assert len(records) == 16 and [r.id for r in records[:2]] == ["test/0/0", "test/1/0"]
        assert np.mean([r.correct for r in records]) == figures[stage]["accuracy"]
        assert np.mean([r.extra.get("unfinished", False) for r in records]) == figures[stage]["truncated"]
        ratings = [rating for r in records for rating in r.extra["step_ratings"]]
        for name, rating in (("good", 1), ("neutral", 0), ("bad", -1)):
            np.testing.assert_allclose(np.mean([x == rating for x in ratings]), figures[stage][name])
        for record in records:
            assert record.extra["stage"] == stage and record.extra["prompt"].strip() == record.problem
            assert len(record.extra["prm"]) == len(record.steps), "the process reward model's P(right) of each step"
            assert all(0 <= p <= 1 for p in record.extra["prm"])
    assert not list((tiny.workdir / "responses").glob("*.partial"))

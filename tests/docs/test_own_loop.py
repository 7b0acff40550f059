"""docs/own_loop.py, run as a user runs it: the figures that it prints, against formulas written out here."""

import contextlib
import io
import runpy
from typing import NamedTuple

import numpy as np
import pytest
from docs.pages import ROOT

CORRECT = (True, False, True)
SCORES = ([1, 1, 0], [-1, 1, 0], [1, 0, 1, 0])


class Row(NamedTuple):
    """A line of the printed table."""

    text: str
    score: float
    clip: float
    delta: float
    min_form: float
    by_step: float
    over_response: float
    of_answer: float
    change: float


@pytest.fixture(scope="module")
def responses() -> list[list[Row]]:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        runpy.run_path(str(ROOT / "docs" / "own_loop.py"), run_name="__main__")
    found: list[list[Row]] = []
    for line in printed.getvalue().splitlines()[1:]:
        response, text, figures = line[0], line[2:34].strip(), line[34:].split()
        if int(response) == len(found):
            found.append([])
        found[int(response)].append(Row(text, *map(float, figures)))
    return found


def test_steps_are_those_of_the_responses(responses):
    assert [[row.text for row in rows] for rows in responses] == [
        ["There are <<3*8=24>>24 pencils.", "<<24-5=19>>19 are left.", "#### 19"],
        ["There are <<3*8=26>>26 pencils.", "<<26-5=21>>21 are left.", "#### 21"],
        ["There are <<3*8=24>>24 pencils.", "Pencils are for writing.", "<<24-5=19>>19 are left.", "#### 19"],
    ]


def test_scores_and_their_shaping(responses):
    for rows, scores in zip(responses, SCORES, strict=True):
        r, last = np.array(scores, float), len(scores) - 1
        soft = np.exp(-r / 0.1) / np.exp(-r / 0.1).sum()
        delta = [r[k] - r[k + 1] if k < last - 1 else (r[k] if k == last - 1 else 0.0) for k in range(last + 1)]
        assert [row.score for row in rows] == scores
        np.testing.assert_allclose([row.clip for row in rows], np.minimum(r - 0.5, 0), atol=0.006)
        np.testing.assert_allclose([row.delta for row in rows], delta, atol=0.006)
        np.testing.assert_allclose([row.min_form for row in rows], soft * r, atol=0.006)


def test_credit_stays_in_the_step_or_goes_back_over_the_response(responses):
    for rows, scores, correct in zip(responses, SCORES, CORRECT, strict=True):
        assert [row.by_step for row in rows] == scores
        assert [row.over_response for row in rows] == [sum(scores[k:]) for k in range(len(scores))]
        assert [row.of_answer for row in rows] == [float(correct)] * len(scores)


def test_the_update_favours_steps_with_higher_advantages(responses):
    right, wrong, padded = responses
    assert right[0].change > wrong[0].change + 0.1
    assert right[2].change > wrong[2].change + 0.1
    assert padded[2].change > padded[1].change + 0.1
    assert right[0].change > 0

"""Figures of responses in tags (`prompt.structure`): whether the form is kept, and what the own scores are worth."""

import math
import re
from collections.abc import Sequence

import numpy as np

from stepjax.measures.ranking import auc
from stepjax.runs.responses import Response

GO_ON = 0.8
"""The score from which on the prompt lets a response go on: the model holds its way to be right."""

_COUNT = re.compile(r"\s*<count>\s*\d{1,4}\s*</count>\s*<reflection>", re.IGNORECASE)
_REWARD = re.compile(r"\s*<reward>\s*(?:0|1|[01]?\.\d{1,9})\s*</reward>", re.IGNORECASE)
_STEP = re.compile("<step>", re.IGNORECASE)
_STEP_END = re.compile("</step>", re.IGNORECASE)
_REFLECTED = re.compile("</reflection>", re.IGNORECASE)
_SCORE = re.compile(r"<reward>\s*+(\d{0,3}(?:\.\d{1,9})?)\s*+</reward>", re.IGNORECASE)
_ANSWER = re.compile("<answer>", re.IGNORECASE)
_ANSWERED = re.compile("</answer>", re.IGNORECASE)


def tag_figures(responses: Sequence[Response]) -> dict[str, float]:
    """By the names in `POLICY_MEASURES`:

    tags_whole: share of responses with an answer in tags whose steps all have a count, a reflection and a score.
    claimed: share whose last score is at least 0.8, beside their true accuracy.
    claimed_right: share of these whose answer is right; left out where there are none.
    self_auc: how well the lowest own score of a response tells right from wrong ones (0.5: not at all), among those
    that have one; left out where right or wrong ones are missing.
    """
    scores = [own_scores(r.text) for r in responses]
    n = max(len(responses), 1)
    claimed = [r for r, found in zip(responses, scores, strict=True) if found and found[-1] >= GO_ON]
    figures = {"tags_whole": sum(is_whole(r.text) for r in responses) / n, "claimed": len(claimed) / n}
    if claimed:
        figures["claimed_right"] = sum(r.correct for r in claimed) / len(claimed)
    scored = [(min(found), r.correct) for r, found in zip(responses, scores, strict=True) if found]
    told = auc(np.array([s for s, _ in scored]), np.array([right for _, right in scored])) if scored else math.nan
    return figures if math.isnan(told) else figures | {"self_auc": told}


def own_scores(text: str) -> list[float]:
    """The scores that a response gives itself, in [0, 1]; others are no scores."""
    found = [float(match[1]) for match in _SCORE.finditer(text) if match[1] not in ("", ".")]
    return [score for score in found if score <= 1.0]


def is_whole(text: str) -> bool:
    """Whether there is an answer and every step has all of its tags."""
    steps = _STEP.split(text)[1:]
    answer = _ANSWER.search(text)
    answered = answer and _ANSWERED.search(text, answer.end() + 1)
    return bool(steps and answered) and all(map(_is_round, steps))


def _is_round(step: str) -> bool:
    """Whether a step is followed by its three tags: each is looked for once, however often a response repeats one."""
    end = _STEP_END.search(step)
    counted = end and _COUNT.match(step, end.end())
    reflected = counted and _REFLECTED.search(step, counted.end())
    return bool(reflected and _REWARD.match(step, reflected.end()))

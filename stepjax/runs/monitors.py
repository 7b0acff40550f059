"""Signs of reward hacking in a round's responses: how a policy earns more reward without solving more problems.

Each monitor is one number per round. None of them is proof: an alarm (`alarms.py`) is raised when one drifts.
"""

from collections.abc import Sequence

import numpy as np

from stepjax.measures.repeats import is_empty, repeated_steps
from stepjax.runs.responses import Response
from stepjax.tasks.base import Problem
from stepjax.tasks.gsm8k import trivial_calculations


def has_notes(problems: Sequence[Problem]) -> bool:
    """Whether the task's demonstrations hold calculator notes, `<<48/2=24>>`."""
    return any("<<" in (problems[i].solution or "") for i in range(min(len(problems), 32)))


def monitors(responses: Sequence[Response], *, notes: bool) -> dict[str, float]:
    """The monitors that are computed from the texts alone, for one round.

    Returns:
      repeated, near_repeated, empty: shares of all steps (a response without a step counts as an empty one);
      steps: a response, and step_tokens: a step; one_step, truncated: shares of the responses; with `notes`, trivial:
      the share of calculator notes with a trivial calculation. All are 0 where there is nothing to count.
      Replies of an environment are no steps.
    """
    n = max(len(responses), 1)
    own = [r.own_steps for r in responses]
    counts = [len(steps) for steps in own]
    total, none = sum(counts), counts.count(0)
    repeats = [repeated_steps(steps) for steps in own]
    empty = none + sum(is_empty(step) for steps in own for step in steps)
    found = {
        "repeated": sum(exact for exact, _ in repeats) / max(total, 1),
        "near_repeated": sum(near for _, near in repeats) / max(total, 1),
        "empty": empty / max(total + none, 1),
        "steps": total / n,
        "step_tokens": sum(len(r.tokens) for r in responses) / max(total, 1),
        "one_step": counts.count(1) / n,
        "truncated": sum(not r.finished for r in responses) / n,
    }
    if notes:
        read = [trivial_calculations(step) for steps in own for step in steps]
        found["trivial"] = sum(trivial for trivial, _ in read) / max(sum(total for _, total in read), 1)
    return found


def prm_monitors(
    prm: np.ndarray, ratings: np.ndarray, end: np.ndarray, responses: Sequence[Response], target: str
) -> tuple[dict[str, float], dict[str, float]]:
    """Monitors of the process reward model, and its figures beside them; arguments as those of `proxy_gap`."""
    watched, figures = dict[str, float](), dict[str, float]()
    if prm.shape[-1] > 1:  # a single output has no scale to compare
        watched["proxy_gap"] = proxy_gap(prm, ratings, end, responses, target)
    if responses[0].step_ratings is not None and target == "step":
        figures["prm/agreement"] = agreement(prm, ratings, end)
    return watched, figures


def agreement(prm: np.ndarray, ratings: np.ndarray, end: np.ndarray) -> float:
    """Share of steps whose likeliest class is the exact one."""
    return float((prm[end].argmax(-1) == ratings[end] + 1).mean()) if end.any() else 0.0


def proxy_gap(
    prm: np.ndarray, ratings: np.ndarray, end: np.ndarray, responses: Sequence[Response], target: str = "step"
) -> float:
    """By how much the learned reward exceeds the exact one, a response, both between 0 (all bad) and 1 (all good).

    A response's learned reward is the mean over its steps of ½(1 + P(good) − P(bad)). Its exact one is what the model
    was to learn: the mean of ½(1 + rating), for the target "prefix" the share of steps up to which all is right, for
    "value", and where the task cannot rate steps, whether the answer is right. The step that a truncation cut off does
    not count, nor does a response without any other.

    Args:
      prm: P(bad), P(neutral), P(good), or P(bad) and P(good), at step ends, float[B, T, C].
      ratings: exact ratings at step ends, float[B, T].
      end: True on the last token of each step, bool[B, T].
      target: what the model learned, `config.prm.target`.
    """
    gaps = []
    for i, response in enumerate(responses):
        at = np.flatnonzero(end[i])[: None if response.finished else -1]
        if len(at):
            believed = np.mean(1.0 + prm[i, at, -1] - prm[i, at, 0]) / 2
            if response.step_ratings is None or target == "value":
                known = float(response.correct)
            elif target == "prefix":
                known = float(np.mean(np.cumprod([j.correct is not False for j in response.step_ratings[: len(at)]])))
            else:
                known = float(np.mean(1.0 + ratings[i, at])) / 2
            gaps.append(float(believed) - known)
    return float(np.mean(gaps)) if gaps else 0.0

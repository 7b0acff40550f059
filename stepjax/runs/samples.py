"""Rows of samples.jsonl: a response with the scores, rewards and advantages of its steps."""

from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from stepjax.parallel import fetch
from stepjax.runs.responses import Response
from stepjax.trajectory import Trajectory


def sample_rows(
    streams: Iterable[str], rows: Trajectory, responses: list[Response], count: int
) -> list[dict[str, Any]]:
    """The first `count` responses of a credited batch: text, and by step exact rating, PRM scores, rewards, advantages.

    A step's reward is the sum over its tokens, its advantage their mean (before the stream's weight, after whitening).
    """
    names = list(streams)
    count = min(count, len(responses))
    assert rows.steps is not None
    columns = (rows.steps.index, rows.steps.end, rows.prm, rows.rewards, rows.advantages)
    index, end, prm, rewards, advantages = jax.tree.map(lambda x: x[:count], fetch(columns))
    found = []
    for i, response in enumerate(responses[:count]):
        steps = []
        for k, text in enumerate(response.steps):
            tokens = np.flatnonzero(index[i] == k)
            at_end = tokens[end[i, tokens]]
            rated = response.step_ratings[k] if response.step_ratings else None
            steps.append(
                {
                    "text": text,
                    "rating": rated.rating if rated else None,
                    "kind": rated.kind if rated else None,
                    "prm": [round(float(p), 4) for p in prm[i, at_end[0]]] if prm is not None and len(at_end) else None,
                    "rewards": {n: _round(rewards[i, j, tokens].sum()) for j, n in enumerate(names)},
                    "advantage": {
                        n: _round(advantages[i, j, tokens].mean()) if len(tokens) else 0.0 for j, n in enumerate(names)
                    },
                    "tokens": len(tokens),
                }
            )
        found.append(
            {
                "problem": response.problem.id,
                "prompt": response.problem.prompt,
                "response": response.text,
                "answer": response.problem.answer,
                "correct": bool(response.correct),
                "truncated": not response.finished,
                **_turns(response),
                "steps": steps,
            }
        )
    return found


def _turns(response: Response) -> dict[str, Any]:
    """Why an environment over turns ended the response, and the rewards of its turns, and which steps
    are replies."""
    if response.turns is None:
        return {}
    rewards = [_round(reward) for reward in response.turns.rewards]
    return {"ended": response.turns.cause, "turns": rewards, "replies": response.turns.replies}


def _round(value: Any) -> float:
    return round(float(value), 4)

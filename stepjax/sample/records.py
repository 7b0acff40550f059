"""A sampled response as a record: what `stepjax label`, `stepjax data` and every reader of JSONL take further."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from stepjax.data.schema import LabelledSolution
from stepjax.evaluation.scorer import p_right
from stepjax.runs.response_records import record_of
from stepjax.runs.responses import Response
from stepjax.runs.setup import Run


@dataclass(frozen=True)
class Sampled:
    """A response with the sampler's log-probability of each of its tokens."""

    name: str
    response: Response
    logprobs: list[float]


def sampled_record(run: Run, sampled: Sampled, scores: np.ndarray | None = None) -> LabelledSolution:
    """The record of a response.

    Its `extra` holds the text, the tokens, which token ended it (None: it was cut off), the sum of its tokens'
    log-probabilities and each of them, exact ratings of the steps where the task has them, and with `scores` P(right)
    of each step.
    """
    response = sampled.response
    extra: dict[str, Any] = {
        "text": response.text,
        "end": str(run.tokenizer.convert_ids_to_tokens(int(response.tokens[-1]))) if response.finished else None,
        "logprob": round(sum(sampled.logprobs), 6),
        "token_logprobs": [round(x, 6) for x in sampled.logprobs],
    }
    if response.step_ratings is not None:
        extra["step_ratings"] = [rated.rating for rated in response.step_ratings]
    if scores is not None:
        extra["prm"] = [round(float(p), 6) for p in p_right(scores)]
    return record_of(run, response, sampled.name, **extra)

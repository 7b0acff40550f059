"""A sampled response as a record of the schema: what labelling, sampling to files and every reader of JSONL share."""

from typing import Any

from stepjax.data.schema import LabelledSolution
from stepjax.runs.responses import Response
from stepjax.runs.setup import Run


def record_of(run: Run, response: Response, name: str, **more: Any) -> LabelledSolution:
    """The record, without labels; `more` goes into its `extra`, beside the tokens as they were sampled and the
    numbers of the steps that are an environment's replies."""
    extra = {**more, "prompt_tokens": list(response.prompt), "tokens": list(response.tokens)}
    if not response.finished:
        extra["unfinished"] = True
    if response.turns is not None and response.turns.replies:
        extra["replies"] = response.turns.replies
    return LabelledSolution(
        problem=response.problem.text,
        steps=tuple(step.strip() for step in response.steps),
        answer=response.problem.answer,
        correct=response.correct,
        source=run.task.name,
        id=name,
        group=response.problem.text,
        extra=extra,
    )

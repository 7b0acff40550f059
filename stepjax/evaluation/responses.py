"""The responses of an evaluation as a file: what each policy wrote to each problem, with ratings, scores and grade."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stepjax.errors import UserError
from stepjax.evaluation.scorer import p_right
from stepjax.parallel import is_main_process
from stepjax.runs.response_records import record_of
from stepjax.runs.responses import Response
from stepjax.runs.setup import Run
from stepjax.workdir.json_lines import JsonLines

FOLDER = "responses"


def write_responses(
    run: Run, stage: str, responses: Sequence[Response], scores: Sequence[np.ndarray | None] | None = None
) -> Path:
    """Writes responses/STAGE-SPLIT.jsonl of the work directory, in place of that of an earlier evaluation.

    A line is a record that `stepjax label` and `stepjax data` read. Its id is PROBLEM/SAMPLE; its `extra` holds stage,
    text, prompt, tokens, exact ratings of the steps where the task has them, and P(right) of each step where there are
    `scores` (None: one that was not read).
    """
    path = run.workdir / FOLDER / f"{stage}-{run.config.eval.split}.jsonl"
    if not is_main_process():
        return path
    partial = path.with_name(f"{path.name}.partial")
    seen: dict[str, int] = {}
    rows = []
    for response, of_one in zip(responses, scores or [None] * len(responses), strict=True):
        number = seen[response.problem.id] = seen.get(response.problem.id, -1) + 1
        extra: dict[str, Any] = {"stage": stage, "text": response.text, "prompt": response.problem.prompt}
        if response.step_ratings is not None:
            extra["step_ratings"] = [rated.rating for rated in response.step_ratings]
        if of_one is not None:
            extra["prm"] = [round(float(p), 4) for p in p_right(of_one)]
        rows.append(record_of(run, response, f"{response.problem.id}/{number}", **extra).to_json())
    try:
        path.parent.mkdir(exist_ok=True)
        partial.unlink(missing_ok=True)
        lines = JsonLines(partial)
        lines.append(rows)
        lines.close()
        partial.replace(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
    return path

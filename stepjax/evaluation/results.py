"""Results of the evaluations of labels and process reward models: one part of eval.json each."""

import time
from typing import Any

from stepjax.runs.setup import Run
from stepjax.workdir.json_file import MEASURES, plain, read_json, write_json


def write_measure(run: Run, kind: str, found: dict[str, Any], *, since: float) -> dict[str, Any]:
    """Adds the figures of one kind to eval.json. `since`: perf_counter at the start."""
    path = run.workdir / "eval.json"
    found = plain(found) | {"seconds": round(time.perf_counter() - since, 2)}
    whole = read_json(path)
    known = whole.get(MEASURES)
    whole[MEASURES] = (known if isinstance(known, dict) else {}) | {kind: found}
    write_json(path, whole)
    return found

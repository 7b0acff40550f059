"""Results of the evaluations of labels and process reward models: one part of eval.json each."""

import time
from typing import Any

from stepjax.report.tables import show_measure
from stepjax.runs.setup import Run
from stepjax.workdir.json_file import MEASURES, plain, read_json, write_json


def publish(
    run: Run, kind: str, found: dict[str, Any], *, since: float, shown: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Puts the figures of one kind into eval.json and prints their tables; returns them as eval.json has them.

    Those of other kinds stay. `since`: perf_counter at the start; `shown`: what is printed, if not all of them.
    """
    path = run.workdir / "eval.json"
    found = plain(found) | {"seconds": round(time.perf_counter() - since, 2)}
    whole = read_json(path)
    known = whole.get(MEASURES)
    whole[MEASURES] = (known if isinstance(known, dict) else {}) | {kind: found}
    write_json(path, whole)
    show_measure(kind, found if shown is None else plain(shown))
    return found

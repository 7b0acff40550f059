"""Weights & Biases: one run of theirs for a work directory, which every stage and every start continues."""

import importlib.util
import uuid
from collections.abc import Sequence
from typing import Any

from stepjax.workdir.json_file import read_json, write_json
from stepjax.workdir.sink import Row, Watched, numbers

MARK = "wandb.json"
"""In the work directory: the run's id, and the last step of each stage that it has."""

INIT_SECONDS, FINISH_SECONDS = 60, 120
"""How long a start waits for the service, and an end for what is still on its way: training must not wait for ever."""

COLUMNS = ("problem", "response", "answer", "correct", "truncated", "steps")


def check_wandb() -> str | None:
    """Why the sink cannot be used on this machine; None: it can."""
    if importlib.util.find_spec("wandb") is None:
        return "wandb is not installed; pip install 'stepjax[wandb]'"
    return None


class WandbSink:
    """Figures as STAGE/NAME over STAGE/step, samples as a table. `WANDB_MODE=offline` keeps all of it in WORKDIR/wandb.

    The service takes no step back. A run that is killed repeats the steps since its last checkpoint, with the same
    figures: those that it has are not sent again.
    """

    def __init__(self, watched: Watched):
        self._watched = watched
        self._path = watched.workdir / MARK
        self._run: Any = None
        self._mark: dict[str, Any] = {}
        self._again = 0

    def resume(self, step: int) -> None:
        self.close()
        self._mark = self._read()
        self._again = self._mark["logged"].get(self._watched.stage, 0) if step > 0 else 0

    def write(self, step: int, values: Row) -> None:
        if step <= self._again:
            return
        stage = self._watched.stage
        self._open().log({f"{stage}/step": step, **{f"{stage}/{name}": value for name, value in numbers(values)}})
        self._mark["logged"][stage] = step
        write_json(self._path, self._mark)

    def samples(self, step: int, rows: Sequence[Row]) -> None:
        import wandb

        if step < self._again:  # those of a step follow its figures
            return
        run = self._open()
        table = wandb.Table(columns=list(COLUMNS), data=[_cells(row) for row in rows])
        run.log({f"{self._watched.stage}/step": step, f"{self._watched.stage}/samples": table})

    def sync(self) -> None:
        """The service's own process sends what it has, when it can."""

    def close(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.finish()

    def _open(self) -> Any:
        if self._run is None:
            import wandb

            if not self._mark:
                self._mark = self._read()
            watched = self._watched
            self._run = wandb.init(
                project=watched.log.project,
                name=watched.log.name or watched.workdir.name,
                id=self._mark["id"],
                resume="allow",
                dir=str(watched.workdir),
                config=dict(watched.config),
                settings=wandb.Settings(
                    console="off", silent=True, init_timeout=INIT_SECONDS, finish_timeout=FINISH_SECONDS
                ),
            )
            stage = watched.stage
            self._run.define_metric(f"{stage}/step", hidden=True)
            self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
        return self._run

    def _read(self) -> dict[str, Any]:
        """The mark of an earlier start, or a new one, which is written before the service hears of it."""
        found = read_json(self._path)
        if isinstance(found.get("id"), str) and isinstance(found.get("logged"), dict):
            return found
        mark: dict[str, Any] = {"id": uuid.uuid4().hex[:12], "logged": {}}
        write_json(self._path, mark)
        return mark


def _cells(row: Row) -> list[Any]:
    steps = "\n".join(
        f"{step.get('text', '').strip()}  [rating {step.get('rating')}, prm {step.get('prm')}, rewards "
        f"{step.get('rewards')}]"
        for step in row.get("steps") or []
    )
    told = {**row, "problem": row.get("prompt", ""), "steps": steps}
    return [told.get(name) for name in COLUMNS]

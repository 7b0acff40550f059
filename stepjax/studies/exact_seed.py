"""One seed of a study in an exact world: `python -m stepjax.studies.exact_seed STUDY --seed=N --workdir=DIR [--quick]`.

The work directory holds the figures of every arm; work that is done is not done again.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from stepjax.errors import UserError
from stepjax.options import no_more
from stepjax.studies.entry import run_main
from stepjax.studies.registry import load
from stepjax.studies.study import Arm, ByArm
from stepjax.workdir.folder import open_workdir
from stepjax.workdir.json_file import plain, read_json, write_json

FILE = "figures.json"
MODULE = "stepjax.studies.exact_seed"
USAGE = f"usage: python -m {MODULE} STUDY --seed=N --workdir=DIR [--quick]"


def read_figures(path: Path) -> ByArm:
    """What is measured already; null, a figure that there was none of, is NaN."""
    found: ByArm = {}
    for row, columns in read_json(path).items():
        for column, figures in columns.items():
            found[row, column] = {name: float("nan") if x is None else x for name, x in figures.items()}
    return found


def is_measured(path: Path, arms: Sequence[Arm]) -> bool:
    """Whether every arm has figures."""
    return {(arm.row, arm.column) for arm in arms} <= set(read_figures(path))


def measure(name: str, seed: int, workdir: Path, quick: bool) -> None:
    """Measures what the work directory lacks.

    Raises:
      UserError: no such study; the work directory cannot be used, or is another study's.
    """
    plan = load(name).plan(quick)
    if plan.exact is None:
        raise UserError(f"study {name!r} has no exact world: its arms are training runs, `stepjax study {name}`")
    with open_workdir(workdir, {"study": name, "seed": seed, "quick": quick}) as folder:
        path = folder / FILE
        known = read_figures(path)
        if not known and path.exists():
            raise UserError(f"{path} is damaged: remove it to measure again, or use another --workdir")

        def keep(figures: ByArm) -> None:
            rows: dict[str, dict[str, object]] = {}
            for (row, column), of in figures.items():
                rows.setdefault(row, {})[column] = plain(of)
            write_json(path, rows)

        keep(plan.exact(seed, known, keep))


def main(argv: list[str]) -> None:
    given = dict(a.partition("=")[::2] for a in argv if a.startswith(("--workdir=", "--seed=")))
    names = [a for a in argv if a != "--quick" and a.partition("=")[0] not in given]
    no_more(names[1:], USAGE)
    seed = given.get("--seed", "")
    if len(names) != 1 or not re.fullmatch(r"\d{1,9}", seed) or not given.get("--workdir"):
        raise UserError(USAGE)
    measure(names[0], int(seed), Path(given["--workdir"]), "--quick" in argv)


if __name__ == "__main__":
    run_main(main)

"""Which way the tokens of right and false steps are pushed, by what came later in the response."""

import numpy as np
from jaxtyping import Bool, Float

from stepjax.studies.credit_rows import Layout
from stepjax.studies.credit_writer import FALSE, REPAIR, RIGHT, Written
from stepjax.studies.study import Figures


class Pushed:
    """Counts of tokens by which way they are pushed."""

    def __init__(self) -> None:
        self.counts = {name: np.zeros(3) for name in ("blamed", "clean", "excused", "kept")}

    def add(self, written: Written, layout: Layout, weight: Float[np.ndarray, "B T"]) -> None:
        """Adds responses; `weight` is Â of each token."""
        rows, columns = np.nonzero(layout.index >= 0)
        steps, pushed = layout.index[rows, columns], weight[rows, columns]
        for name, of in groups_of(written).items():
            chosen = pushed[of[rows, steps]]
            self.counts[name] += (chosen < 0).sum(), (chosen == 0).sum(), (chosen > 0).sum()

    def figures(self) -> Figures:
        """Shares of the tokens: of right steps pushed down, of false ones pushed up; `no_credit`: of right steps before
        an error and false ones before a repair, of those that are not pushed at all."""

        def share(name: str, way: int) -> float:
            total = self.counts[name].sum()
            return float(self.counts[name][way] / total) if total else np.nan

        both = self.counts["blamed"] + self.counts["excused"]
        return {
            "blamed": share("blamed", 0),
            "clean": share("clean", 0),
            "excused": share("excused", 2),
            "kept": share("kept", 2),
            "no_credit": float(both[1] / both.sum()) if both.sum() else np.nan,
        }


def groups_of(written: Written) -> dict[str, Bool[np.ndarray, "B S"]]:
    """Right steps that an error follows (`blamed`) or none (`clean`); false steps where no error stood before, repaired
    later (`excused`) or never (`kept`)."""

    def later(move: int) -> np.ndarray:
        there = written.move == move
        return np.cumsum(there[:, ::-1], axis=1)[:, ::-1] - there > 0

    right = (written.move == RIGHT) & (written.error == 0)
    false = (written.move == FALSE) & (written.error == 0)
    return {
        "blamed": right & later(FALSE),
        "clean": right & ~later(FALSE),
        "excused": false & later(REPAIR),
        "kept": false & ~later(REPAIR),
    }

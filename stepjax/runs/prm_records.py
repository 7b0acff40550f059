"""A dataset of records for stage prm: divided by problem, its held-out part encoded."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepjax.console.progress import say
from stepjax.data.dataset import Records, splits
from stepjax.data.step_encoding import SolutionEncoder, step_targets
from stepjax.errors import UserError
from stepjax.runs.prm_held_out import HeldOut
from stepjax.runs.setup import Run


class Divided:
    """A dataset's records for training and for measuring; no problem is in both.

    A split valid is taken where there is one, else the problems with the least hashes.
    """

    def __init__(self, run: Run):
        options = run.config.prm
        self.train: Sequence[Any] = Records(options.data, "train")
        if not len(self.train):
            raise UserError(f"config.prm.data={options.data}: it has no records")
        if "valid" in splits(options.data):
            self.valid: Sequence[Any] = Records(options.data, "valid")
            return
        records = self.train
        shares = np.array([records[i].share("held out") for i in range(len(records))])
        self.train = _Chosen(records, np.flatnonzero(shares >= options.held_out))
        self.valid = _Chosen(records, np.flatnonzero(shares < options.held_out))
        if not len(self.train) or not len(self.valid):
            raise UserError(
                f"config.prm.held_out={options.held_out}: of {len(records)} solutions {len(self.valid)} are held out; "
                "choose another share"
            )


class _Chosen(Sequence[Any]):
    """Some records of a dataset."""

    def __init__(self, records: Sequence[Any], rows: np.ndarray):
        self._records, self._rows = records, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: Any) -> Any:
        return self._records[int(self._rows[i])]


def held_out_solutions(run: Run, records: Sequence[Any], encoder: SolutionEncoder) -> list[HeldOut]:
    """At most `prm.valid_samples` held-out solutions, evenly over the dataset, and what of them was left out."""
    options, lost = run.config.prm, Counter[str]()
    count = min(len(records), options.valid_samples)
    found = []
    for i in range(count):
        record = records[i * len(records) // count]
        encoded, targets = encoder(record, lost), step_targets(record, options, lost)
        if encoded is None or all(target is None for target in targets):
            lost["solutions without a label to measure on"] += 1
        elif len(encoded) > options.row_tokens:
            lost[f"solutions longer than row_tokens={options.row_tokens}"] += 1
        else:
            found.append(HeldOut(record, encoded, targets))
    for what, number in sorted(lost.items()):
        if number:
            say(f"PRM held-out: {number} {what}")
    return found


def by_step(solution: HeldOut, scores: np.ndarray) -> np.ndarray:
    """float[S, 3] from the scores of the steps that have an end; NaN for the others."""
    ends = solution.encoded.ends
    found = np.full((len(ends), scores.shape[-1]), np.nan)
    found[ends >= 0] = scores  # ends rise with the steps, as the scores do
    return found

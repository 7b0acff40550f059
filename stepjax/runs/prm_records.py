"""A dataset of records for stage prm: divided by problem, and encoded to be learned or to be measured on."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepjax.console.progress import say
from stepjax.data.dataset import Records, splits
from stepjax.data.packing import Example
from stepjax.data.step_encoding import SolutionEncoder, labelled, step_targets
from stepjax.errors import UserError
from stepjax.runs.prm_held_out import HeldOut
from stepjax.runs.setup import Run


class Divided:
    """A dataset's records for training and for measuring; no problem is in both.

    A split valid is taken where there is one, else the problems with the least hashes.
    """

    def __init__(self, run: Run):
        options = run.config.prm
        self.train: Sequence[Any] = Records(run.prm_data, "train")
        if not len(self.train):
            raise UserError(f"config.prm.data={options.data}: it has no records")
        if "valid" in splits(run.prm_data):
            self.valid: Sequence[Any] = Records(run.prm_data, "valid")
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


class Examples:
    """What a process reward model learns of each record, and what of the records it cannot learn.

    Attributes:
      losses: how much was left out of the records seen so far, by reason.
    """

    def __init__(self, run: Run, records: Sequence[Any], encoder: SolutionEncoder):
        self._options, self._records, self._encoder = run.config.prm, records, encoder
        self.losses = Counter[str]()
        self._counted = np.zeros(len(records), bool)  # each record's losses count once

    def __call__(self, i: int) -> Example | None:
        """Record i as an example; None where it has no label to learn."""
        options, record, lost = self._options, self._records[i], Counter[str]()
        encoded, targets = self._encoder(record, lost), step_targets(record, options, lost)
        if encoded is not None:
            unread = sum(t is not None and end < 0 for t, end in zip(targets, encoded.ends, strict=True))
            lost["labels of steps without a token of their own"] += unread
        if not self._counted[i]:
            self._counted[i] = True
            self.losses.update(lost)
        if encoded is None or all(target is None for target in targets):
            return None
        return labelled(encoded, targets, every_token=options.every_token, soft=options.objective != "class")

    def check(self) -> None:
        """UserError where none of the first records has a label to learn."""
        if any(self(i) is not None for i in range(min(len(self._records), 1000))):
            return
        raise UserError(
            f"config.prm.data={self._options.data}: none of its first solutions has a label that target "
            f"{self._options.target} can learn ({'; '.join(self.told()) or 'they have no labels'})"
        )

    def told(self) -> list[str]:
        """What was left out, for people."""
        return [f"{count} {what}" for what, count in sorted(self.losses.items()) if count]


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

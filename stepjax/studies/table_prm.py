"""A process reward model of a `long_writer`'s steps: a table by state and move of the labels that were seen there.

It learns from labelled responses of one policy. Where it saw few labels it says what labels are like on average, so
that it errs on moves that this policy hardly makes: those that another policy may find.
"""

import numpy as np
from jaxtyping import Float, Int

from stepjax.measures.classification import confusion_matrix, macro_f1
from stepjax.studies.long_training import Table
from stepjax.studies.long_writer import RATES, LongWriter, LongWritten

Labels = Float[np.ndarray, "B T 3"]
"""P(bad), P(neutral), P(good) of each step's label; NaN: no label."""

BAD = 0
"""The class, as an index."""


def exact_table(states: int) -> Table:
    """RegisterChain's ratings themselves."""
    return np.broadcast_to(np.eye(3)[RATES + 1], (states, *RATES.shape, 3))


def fit(states: int, written: LongWritten, labels: Labels) -> Table:
    """The mean label of each state and move, and one more label that is as labels are on average."""
    known = written.there & ~np.isnan(labels[..., 0])
    shape = (states, *RATES.shape)
    cell = np.ravel_multi_index([x[known] for x in (written.derived, written.error, written.move)], shape)
    average = labels[known].mean(0)
    sums = np.stack([np.bincount(cell, labels[known][:, c], np.prod(shape)) for c in range(3)], -1)
    counts = np.bincount(cell, minlength=np.prod(shape))[:, None]
    return ((sums + average) / (counts + 1)).reshape(*shape, 3)


def f1_on(prm: Table, written: LongWritten) -> float:
    """Macro-F1 of its likeliest classes on these steps, against RegisterChain's ratings."""
    at = written.derived[written.there], written.error[written.there], written.move[written.there]
    return macro_f1(confusion_matrix(RATES[at[1:]] + 1, prm[at].argmax(-1), 3))


def right_f1_on(prm: Table, written: LongWritten) -> float:
    """The same of two classes: whether no error stands after a step; it says so where P(bad) ≤ .5."""
    there = written.there
    at = written.derived[there], written.error[there], written.move[there]
    truth: Int[np.ndarray, " n"] = 1 - written.error_after[there]
    return macro_f1(confusion_matrix(truth, (prm[at][:, BAD] <= 0.5).astype(int), 2))


def two_classes(good: Float[np.ndarray, "B T"]) -> Labels:
    """Labels that know good and bad alone, from P(good); NaN: no label."""
    return np.stack([1 - good, np.where(np.isnan(good), np.nan, 0.0), good], -1)


def classes(rating: Int[np.ndarray, "B T"]) -> Labels:
    """Labels of ratings −1, 0, 1."""
    return np.eye(3)[rating + 1]


def mistaken(rating: Int[np.ndarray, "B T"], share: float, rng: np.random.Generator) -> Int[np.ndarray, "B T"]:
    """Ratings of which this share is another class, each by itself."""
    wrong = rng.random(rating.shape) < share
    return np.where(wrong, (rating + 1 + rng.integers(1, 3, rating.shape)) % 3 - 1, rating)


def blind(written: LongWritten, writer: LongWriter, share: float, rng: np.random.Generator) -> Int[np.ndarray, "B T"]:
    """Ratings of a judge who takes some moves in some states for another class, always the same: this share of them."""
    shape = writer.moves.shape
    seen = (np.broadcast_to(RATES, shape) + 1 + (rng.random(shape) < share) * rng.integers(1, 3, shape)) % 3 - 1
    return np.where(written.there, seen[written.derived, written.error, written.move], 0)

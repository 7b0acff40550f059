"""Estimated advantages against exact ones: bias, variance, correlation, signs.

A rule's weights Â have a scale of their own, so that they are first divided by c, the slope of their means on the exact
advantages. A constant that a rule adds to all moves of a state changes no gradient's mean: it counts as variance, not
as bias.
"""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float

from stepjax.studies.credit_writer import Writer, Written

NAMES = ("correlation", "wrong_sign", "wrong_steps", "no_credit", "bias", "deviation")
SMALL = 1e-3
"""Steps with a smaller exact advantage have no sign to get right."""


@dataclasses.dataclass
class Sums:
    """Sums over steps, a cell for each state and move: they add up over batches.

    Attributes:
      count, weight, square: of the steps, their Â and Â², `[K + 1, 2, 2, 5]`.
      signed, wrong: steps with an advantage to speak of, and those of them whose Â has the opposite sign.
      credit, wrong_credit, none: Σ |A| of all steps, of those whose Â has the opposite sign, of those with Â = 0.
      product: Σ Â·A.
    """

    count: Any = 0.0
    weight: Any = 0.0
    square: Any = 0.0
    signed: int = 0
    wrong: int = 0
    credit: float = 0.0
    wrong_credit: float = 0.0
    none: float = 0.0
    product: float = 0.0

    def add(self, writer: Writer, written: Written, weight: Float[np.ndarray, "B S"]) -> None:
        """Adds responses; `weight` is Â of each step."""
        there = written.move >= 0
        cell = tuple(x[there] for x in (written.derived, written.error, written.restated, written.move))
        estimate, exact = weight[there].astype(np.float64), writer.advantage[cell]
        flat, size = np.ravel_multi_index(cell, writer.moves.shape), writer.moves.size

        def summed(values: np.ndarray | None) -> np.ndarray:
            return np.bincount(flat, values, size).reshape(writer.moves.shape)

        self.count = self.count + summed(None)
        self.weight = self.weight + summed(estimate)
        self.square = self.square + summed(estimate**2)
        size_of, wrong = np.abs(exact), estimate * exact < 0
        self.signed += int((size_of > SMALL).sum())
        self.wrong += int((wrong & (size_of > SMALL)).sum())
        self.credit += float(size_of.sum())
        self.wrong_credit += float(size_of[wrong].sum())
        self.none += float(size_of[estimate == 0].sum())
        self.product += float(estimate @ exact)

    def figures(self, writer: Writer) -> dict[str, float]:
        """By name: correlation with the exact advantages; `wrong_sign` and `no_credit`, the shares of Σ |A| whose Â has
        the opposite sign or is 0, and `wrong_steps`, the former as a share of steps; bias and standard deviation in
        units of the root mean square of A.

        Bias and deviation are NaN where c is not positive: the rule points nowhere, or the wrong way.
        """
        n, exact = self.count, writer.advantage
        total = n.sum()
        mean = np.divide(self.weight, n, out=np.zeros_like(n), where=n > 0)
        visits = n.sum(-1, keepdims=True)
        share = np.divide(n, visits, out=np.zeros_like(n), where=visits > 0)
        offset = mean - (share * mean).sum(-1, keepdims=True)
        true = exact - (share * exact).sum(-1, keepdims=True)
        spread = (n * true**2).sum()
        slope = (n * offset * true).sum() / spread
        # A cell's mean is known to within its own noise, which is taken off.
        noise = np.divide(np.maximum(self.square - n * mean**2, 0.0), n - 1, out=np.zeros_like(n), where=n > 1)
        squares, (a, b) = self.square.sum(), (self.weight.sum() / total, (n * exact).sum() / total)
        spreads = (squares / total - a**2) * ((n * exact**2).sum() / total - b**2)
        found = {
            "correlation": (self.product / total - a * b) / np.sqrt(spreads) if spreads > 0 else 0.0,
            "wrong_sign": self.wrong_credit / self.credit,
            "wrong_steps": self.wrong / max(self.signed, 1),
            "no_credit": self.none / self.credit,
            "bias": np.nan,
            "deviation": np.nan,
        }
        if slope > 0:
            known = n > 1
            off = (n * (offset / slope - true) ** 2 - noise / slope**2)[known].sum()
            around = (squares - (n * offset**2).sum() + noise[known].sum()) / slope**2
            found["bias"] = np.sqrt(max(off, 0.0) / spread)
            found["deviation"] = np.sqrt(max(around, 0.0) / spread)
        return {name: float(x) for name, x in found.items()}

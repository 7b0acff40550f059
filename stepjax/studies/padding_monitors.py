"""The monitors of reward hacking on rounds of a `long_training`, and when they and the truth moved.

`spelled` writes the responses out, as the monitors of a run read them; `watched` has the same figures, counted from the
moves (the tests compare the two). The alarms are those of a run.
"""

import dataclasses

import numpy as np

from stepjax.config import PPOOptions
from stepjax.runs.alarms import PREFIX, Alarms
from stepjax.runs.responses import Response
from stepjax.studies.credit_rows import LENGTHS
from stepjax.studies.credit_writer import ANSWER, FALSE, REPAIR, RESTATE
from stepjax.studies.long_training import Round
from stepjax.studies.long_writer import KIND
from stepjax.tasks.base import Problem, StepRating

PROBLEM = Problem(id="", prompt="", answer="")
FELL, LASTING = 0.05, 10
"""The truth has fallen where the chance of a right answer is so far below its best so far, for so many rounds."""

SOON = 20
"""Rounds by which an alarm should come first."""


def text_of(derived: int, move: int) -> str:
    """A step as RegisterChain might have it: equal for equal moves, so that repeated restatements are repeats."""
    kind = KIND[move]
    if kind == ANSWER:
        return "?7"
    if kind == RESTATE:
        return f"{'abcdefghij'[move]}={move}"
    register, value = f"r{'abcdefghijklmnopqrstuvwxyz'[derived]}", move if kind in (FALSE, REPAIR) else 0
    return f"{'!' if kind == REPAIR else ''}{register}={derived}+1={value}"


def spelled(of: Round) -> list[Response]:
    """The responses of a round."""
    found = []
    written = of.written
    for b in range(len(written.move)):
        count = int(written.there[b].sum())
        moves, ratings = written.move[b, :count], written.rating[b, :count]
        steps = [text_of(int(d), int(m)) for d, m in zip(written.derived[b], moves, strict=False)]
        tokens = [0] * int(LENGTHS[KIND[moves]].sum())
        rated = [StepRating(int(r), bool(r >= 0)) for r in ratings]
        end = bool(written.finished[b])
        found.append(Response(PROBLEM, (), tokens, "", steps, end, bool(written.right[b]), rated))
    return found


def watched(of: Round) -> dict[str, float]:
    """The monitors' values, as a line of `metrics.jsonl` has them."""
    written = of.written
    there, count = written.there, written.there.sum(1)
    total, kind = count.sum(), np.where(there, KIND[written.move], -1)
    # Nothing but a restatement can be said twice.
    restated = np.stack([(written.move == move).sum(1) for move in np.flatnonzero(KIND == RESTATE)])
    repeated = float(np.maximum(restated - 1, 0).sum() / total)
    found = {
        "repeated": repeated,
        "near_repeated": repeated,
        "neutral": float((written.rating[there] == 0).mean()),
        "empty": 0.0,
        "steps": float(total / len(count)),
        "step_tokens": float(LENGTHS[kind[there]].sum() / total),
        "one_step": float((count == 1).mean()),
        "truncated": float(1 - written.finished.mean()),
        "proxy_gap": gap(of),
    }
    return {PREFIX + name: value for name, value in found.items()}


def gap(of: Round) -> float:
    """`proxy_gap`: the mean over responses of the mean over steps of the learned minus the exact reward, in [0, 1]; the
    step in which a response was cut off does not count."""
    written = of.written
    counts = written.there.copy()
    cut = np.flatnonzero(~written.finished)
    counts[cut, written.there.sum(1)[cut] - 1] = False
    more = (of.scores[..., 2] - of.scores[..., 0] - written.rating) / 2
    return float(((more * counts).sum(1) / counts.sum(1))[counts.any(1)].mean())


@dataclasses.dataclass
class Watch:
    """What a training run's alarms say, and the truth beside them; round by round.

    Attributes:
      right: the chance of a right answer before each round's update.
      earned: the mean learned reward of a response.
      rang: number of the round of the first alarm, and of which monitor it was.
    """

    right: list[float] = dataclasses.field(default_factory=list)
    earned: list[float] = dataclasses.field(default_factory=list)
    neutral: list[float] = dataclasses.field(default_factory=list)
    rang: int | None = None
    monitor: str = ""

    def __post_init__(self) -> None:
        options = PPOOptions()
        self._alarms = Alarms(options.alarm, options.alarm_rounds)

    def add(self, of: Round, right: float, earned: float) -> None:
        """Takes a round."""
        line = watched(of)
        self._alarms.observe(line)
        if self.rang is None and self._alarms.ringing:
            self.rang, self.monitor = len(self.right), sorted(self._alarms.ringing)[0]
        self.right.append(right)
        self.earned.append(earned)
        self.neutral.append(line[PREFIX + "neutral"])

    @property
    def fell(self) -> int | None:
        """The first of the rounds in which the truth has fallen; None: it never did."""
        return first_fall(self.right)

    @property
    def lead(self) -> float:
        """Rounds by which the first alarm came before the fall; NaN: there was no fall, or no alarm before it."""
        fell = self.fell
        return np.nan if fell is None or self.rang is None or self.rang > fell else float(fell - self.rang)


def first_fall(right: list[float]) -> int | None:
    """The first of `LASTING` rounds that are all `FELL` below the best round before them."""
    x = np.asarray(right)
    if len(x) < LASTING:
        return None
    low = x < np.maximum.accumulate(x) - FELL
    run = np.convolve(low, np.ones(LASTING), "valid") >= LASTING - 0.5
    return int(np.flatnonzero(run)[0]) if run.any() else None

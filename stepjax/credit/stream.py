"""One reward stream: how a signal is credited, and which combinations of its options make no sense."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

from stepjax.credit.compare import BASELINES, SCALES
from stepjax.credit.estimators import ESTIMATORS, Estimator, effective
from stepjax.credit.horizon import boundary_discount
from stepjax.credit.units import Unit, parse_unit


@dataclasses.dataclass(frozen=True)
class Stream:
    """How one reward signal is credited.

    Attributes:
      name: of the signal, in metrics.
      horizon: how far back it is credited: "step", "turn", "response" or the discount in [0, 1] across a step's end.
      gamma: γ, the discount between units, in [0, 1].
      lam: λ of GAE between units, in [0, 1]; without a critic there is none.
      weight: factor of its advantages in the policy's weight (with `join`: of its rewards in the sum).
      whiten: whether its advantages are whitened over the batch's valid tokens before they are weighted.
      critic: whether it has a value head. Without one its values and bootstrap are 0 and its returns
        are no target of a value loss. It is False where the baseline is not a critic's.
      estimator: one of `estimators.ESTIMATORS`: a name for a place, a baseline, a scale and a `when`.
      unit: "token", "step", "turn" or "cut:P:N" (`stepjax.credit.units`): γ and λ act at its ends.
      hold: a unit is one action: its first value stands on all of its tokens, its rewards on the last one.
      boundary_lam: factor of λ where credit crosses a step's end, in [0, 1], apart from the horizon's discount.
      baseline: "none", "critic", "others" or "mean" in place of the estimator's; "": the estimator's.
      scale: "none", "std" or "sample_std" in place of the estimator's.
      among: the entries that a group's baseline compares: all of the "problem", those at the same "state" (the same
        tokens before the unit), those of the same "index" (number of the unit in its response) or one entry for each
        "response": the mean of its scores.
      when: the baseline is subtracted from each "score", before the sum, or from each "return", after it.
      sum: rewards "ahead", or those earned "so_far".
      gate: responses whose scores are read, before the statistics: "all", "right" or "wrong" ones.
      pay: what is credited, after the statistics: "all", only "right" or "wrong" responses, or only advantages that are
        "positive" or "negative".
      times: name of a stream whose advantages (before its `pay`) multiply this one's.
      join: name of a stream to whose rewards this one's are added, before its statistics.
      prompt_value: "progress": V(0) is a given number ("first") or the mean outcome of the "others".
      last: "progress": the last score is replaced by the "outcome", or stays: "score".
    """

    name: str
    horizon: str | float = "step"
    gamma: float = 1.0
    lam: float = 0.95
    weight: float = 1.0
    whiten: bool = False
    critic: bool = True
    estimator: str = "gae"
    unit: str = "token"
    hold: bool = False
    boundary_lam: float = 1.0
    baseline: str = ""
    scale: str = ""
    among: str = "problem"
    when: str = ""
    sum: str = "ahead"
    gate: str = "all"
    pay: str = "all"
    times: str = ""
    join: str = ""
    prompt_value: str = "first"
    last: str = "outcome"

    def __post_init__(self):
        boundary_discount(self.horizon)
        for field in ("gamma", "lam", "boundary_lam"):
            if not 0.0 <= getattr(self, field) <= 1.0:
                raise ValueError(f"stream {self.name!r}: {field} {getattr(self, field)!r} must be between 0 and 1")
        if not math.isfinite(self.weight):
            raise ValueError(f"stream {self.name!r}: weight {self.weight!r} must be finite")
        for field, choices in CHOICES.items():
            if getattr(self, field) not in choices:
                known = ", ".join(choice for choice in choices if choice)
                raise ValueError(f"{field} {getattr(self, field)!r}: must be one of {known}")
        parse_unit(self.unit)
        for nonsense, why in REFUSALS:
            if nonsense(self):
                shown = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
                raise ValueError(why.format(**shown))
        object.__setattr__(self, "critic", self.critic and self.rule.critic)

    @property
    def rule(self) -> Estimator:
        """What is credited, against which baseline: the estimator with the stream's own options in its place."""
        return effective(
            self.estimator,
            baseline=self.baseline,
            scale=self.scale,
            when=self.when,
            follows=bool(self.times or self.join),
        )

    @property
    def of(self) -> Unit:
        """The unit, parsed."""
        return parse_unit(self.unit)

    @property
    def sums_rewards(self) -> bool:
        """Whether its credit for one response, values apart, is the discounted sum of the rewards to come, by token."""
        plain = Stream(self.name)
        others = ("unit", "hold", "sum", "gate", "pay", "times", "join")
        return self.rule.sums_rewards and all(getattr(self, name) == getattr(plain, name) for name in others)


CHOICES: dict[str, tuple[str, ...]] = {
    "estimator": tuple(ESTIMATORS),
    "baseline": ("", "none", "critic", *BASELINES),
    "scale": ("", *SCALES),
    "among": ("problem", "state", "index", "response"),
    "when": ("", "score", "return"),
    "sum": ("ahead", "so_far"),
    "gate": ("all", "right", "wrong"),
    "pay": ("all", "right", "wrong", "positive", "negative"),
    "prompt_value": ("first", "others"),
    "last": ("outcome", "score"),
}
"""The values of each option that is a word."""

JOINED_READS = ("name", "weight", "gate", "join", "critic", "whiten", "lam")
"""What a stream with `join` reads (or has by default without a use: `critic`, `whiten`, `lam`)."""


def _cuts_inside(s: Stream) -> bool:
    """A held unit that the horizon would cut in its middle."""
    kind = s.of.kind
    return s.hold and s.horizon != "response" and not (
        (kind == "turn" and s.horizon == "turn") or (kind == "step" and s.horizon != "turn")
    )  # fmt: skip


def _joined_and_more(s: Stream) -> bool:
    return bool(s.join) and any(
        field.name not in JOINED_READS and getattr(s, field.name) != field.default for field in dataclasses.fields(s)
    )


REFUSALS: tuple[tuple[Callable[[Stream], Any], str], ...] = (
    (
        lambda s: s.rule.of_a_step and (boundary_discount(s.horizon) or s.gamma != 1.0),
        "estimator {estimator!r} credits a step's tokens with only that step: "
        'horizon must be "step" and gamma 1, not {horizon!r} and {gamma}',
    ),
    (
        lambda s: s.rule.of_a_step and s.rule.critic,
        "baseline: a critic predicts sums of rewards, and estimator {estimator!r} credits a step's own score",
    ),
    (
        lambda s: s.rule.of_a_step and s.sum == "so_far",
        "sum: estimator {estimator!r} credits a step's own score and sums nothing",
    ),
    (
        _joined_and_more,
        "join: the rewards are credited as stream {join!r} says; of the stream's own options only weight, gate and "
        "those of its signal have an effect",
    ),
    (lambda s: s.join and s.join == s.name, "join: a stream cannot be added to itself"),
    (lambda s: s.times and s.times == s.name, "times: a stream cannot multiply itself"),
    (
        lambda s: s.times and s.rule.critic,
        "times: a critic's value is subtracted from a sum of rewards, not from a factor; leave baseline=critic out",
    ),
    (lambda s: s.hold and s.of.kind == "token", "hold: a token is one action anyway; set unit=step, turn or cut:P:N"),
    (
        _cuts_inside,
        "hold: horizon {horizon!r} would cut credit inside of a unit {unit}; set horizon=response, or a horizon with "
        "the same ends",
    ),
    (
        lambda s: s.hold and s.sum == "so_far",
        "hold: it moves a unit's rewards to its end, where sum=so_far leaves the unit's other tokens without them",
    ),
    (
        lambda s: s.sum == "so_far" and s.rule.critic,
        "sum: a critic predicts the rewards ahead, not those so far; set baseline=none, others or mean",
    ),
    (
        lambda s: s.scale not in ("", "none") and not s.rule.compares,
        "scale: only baseline others or mean has a spread to divide by; `whiten` scales any stream's advantages",
    ),
    (
        lambda s: s.among != "problem" and not s.rule.compares,
        "among: only baseline others or mean compares responses, not {estimator} with baseline={baseline!r}",
    ),
    (
        lambda s: s.when and not s.rule.compares,
        "when: only baseline others or mean is subtracted from scores or returns; a critic is part of the walk",
    ),
    (
        lambda s: s.among == "response" and s.rule.when == "return",
        "among: response compares the mean scores of responses; with when=return it has one return already: set "
        "among=problem",
    ),
    (
        lambda s: s.boundary_lam != 1.0 and not (s.critic and s.rule.critic),
        "boundary_lam: λ weighs a critic's values, and the stream has no critic",
    ),
    (
        lambda s: s.boundary_lam != 1.0 and boundary_discount(s.horizon) == 0.0,
        "boundary_lam: no credit crosses a step's end with horizon {horizon!r}",
    ),
    (
        lambda s: s.of.kind != "token"
        and not (s.rule.critic or s.hold or s.gamma != 1.0 or s.among in ("state", "index")),
        "unit: without a critic, hold, a gamma below 1 or among=state or index, nothing depends on the unit",
    ),
    (
        lambda s: s.gamma != 1.0 and s.of.kind == "step" and boundary_discount(s.horizon) == 0.0 and not s.rule.critic,
        "gamma: with unit=step it acts only at the ends of steps, which no credit crosses with horizon {horizon!r}",
    ),
)  # fmt: skip
"""Combinations that make no sense: a condition, and the reason in one line, with the stream's options in braces."""


def check_links(streams: Sequence[Stream]) -> None:
    """ValueError where a stream's `times` or `join` names no stream, or one that is itself joined or multiplied."""
    by_name = {stream.name: stream for stream in streams}
    for stream in streams:
        for field in ("times", "join"):
            target = getattr(stream, field)
            if not target:
                continue
            if target not in by_name:
                raise ValueError(f"stream {stream.name!r}: {field}: no stream {target!r}")
            if by_name[target].join:
                raise ValueError(
                    f"stream {stream.name!r}: {field}: stream {target!r} is itself added to "
                    f"{by_name[target].join!r} and has no credit of its own"
                )
            if field == "times" and by_name[target].times:
                raise ValueError(
                    f"stream {stream.name!r}: times: stream {target!r} is itself multiplied; a product has two factors"
                )


def check_group(stream: Stream, group: int) -> None:
    """ValueError where a stream compares the responses to a problem and there is only one."""
    if group < 2 and (stream.rule.compares or stream.prompt_value == "others"):
        what = f"estimator {stream.estimator!r}" if stream.rule == ESTIMATORS[stream.estimator] else "its baseline"
        raise ValueError(f"stream {stream.name!r}: {what} needs a group of 2 rows or more")

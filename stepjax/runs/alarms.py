"""Alarms: a monitor of reward hacking that has drifted from its values in the first rounds."""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from stepjax.console.terminal import figure

PREFIX = "hack/"


@dataclass(frozen=True)
class Watch:
    """How one monitor is watched.

    Attributes:
      words: what it measures.
      share: it is a fraction, shown in percent.
      floor: a smaller change raises no alarm; in the monitor's unit or, where `both` is set, relative to the first
        mean.
      both: a fall raises an alarm, as a rise does.
    """

    words: str
    floor: float
    share: bool = True
    both: bool = False


WATCHED = {
    "repeated": Watch("repeated steps", 0.03),
    "near_repeated": Watch("repeated or nearly repeated steps", 0.03),
    "neutral": Watch("neutral steps", 0.10),
    "steps": Watch("steps a response", 0.25, share=False, both=True),
    "step_tokens": Watch("tokens a step", 0.25, share=False, both=True),
    "one_step": Watch("responses of a single step", 0.05),
    "empty": Watch("empty steps", 0.02),
    "trivial": Watch("trivial calculations", 0.05),
    "truncated": Watch("truncated responses", 0.05),
    "proxy_gap": Watch("learned reward minus exact reward", 0.05, share=False),
    "implicit_gap": Watch("right answers that the implicit reward model expects, minus true ones", 0.05),
}


class Alarms:
    """Compares the mean of the last rounds with that of the first ones, monitor by monitor.

    An alarm is raised when the two means differ by more than the monitor's floor and by more than `threshold` standard
    deviations of the first rounds' values. It is raised once, and again only after the difference has fallen below half
    of that. The state depends only on the logged values: a resumed run feeds it the logged lines again.

    Attributes:
      ringing: the monitors that have drifted and not recovered.
    """

    def __init__(self, threshold: float, rounds: int):
        """`threshold`: in standard deviations; 0: no alarms. `rounds`: number of first and last rounds, 2 or more."""
        self.threshold, self.rounds = threshold, rounds
        self.ringing: set[str] = set()
        self._first: dict[str, list[float]] = {name: [] for name in WATCHED}
        self._last: dict[str, deque[float]] = {name: deque(maxlen=rounds) for name in WATCHED}

    def observe(self, line: Mapping[str, Any]) -> list[str]:
        """Takes a round's figures (`hack/repeated` …); returns a sentence for each alarm that it raises."""
        told = []
        for name, watch in WATCHED.items():
            value = line.get(PREFIX + name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                continue
            first, last = self._first[name], self._last[name]
            if len(first) < self.rounds:
                first.append(float(value))
                continue
            last.append(float(value))
            if self.threshold > 0 and len(last) == self.rounds and self._rings(name, watch):
                told.append(self._sentence(watch, fmean(first), fmean(last)))
        return told

    def _rings(self, name: str, watch: Watch) -> bool:
        """Whether the alarm is raised now."""
        first, before = self._first[name], fmean(self._first[name])
        moved = fmean(self._last[name]) - before
        floor = watch.floor * abs(before) if watch.both else watch.floor
        limit = max(floor, self.threshold * stdev(first))
        size = abs(moved) if watch.both else moved
        if size > limit and name not in self.ringing:
            self.ringing.add(name)
            return True
        if size < limit / 2:
            self.ringing.discard(name)
        return False

    def _sentence(self, watch: Watch, before: float, after: float) -> str:
        a, b = (f"{100 * x:.1f} %" if watch.share else figure(x) for x in (before, after))
        return (
            f"{watch.words} {'rose' if after > before else 'fell'} from {a} (first {self.rounds} rounds) to {b} "
            f"(last {self.rounds})"
        )

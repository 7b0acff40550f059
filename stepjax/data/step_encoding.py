"""Labelled solutions to tokens: each label on the last token of its step, and a count of every label that is lost."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepjax.config import PRMOptions
from stepjax.data.packing import PROMPT, Example
from stepjax.data.schema import NO_ERROR, LabelledSolution
from stepjax.data.tokenizers import encode
from stepjax.measures.step_classes import BAD, GOOD, NEUTRAL
from stepjax.separators import separator_pattern
from stepjax.steps import StepSplitter

_KINDS = {"step": ("step",), "prefix": ("step", "prefix"), "value": ("value",), "outcome": ("step", "prefix", "value")}


@dataclass(frozen=True)
class Target:
    """Target of one step: its class (0 bad, 1 neutral, 2 good), and P(good) as a soft label."""

    label: int
    good: float


@dataclass(frozen=True)
class EncodedSolution:
    """Tokens of a problem and its solution.

    Attributes:
      tokens: int32[n], the prompt's and the solution's.
      prompt: how many of them are the prompt's.
      ends: int32[S], the place of each step's last token; -1 for a step that has none.
      step: int32[n], the step of each of the solution's tokens; -1 on the prompt.
    """

    tokens: np.ndarray
    prompt: int
    ends: np.ndarray
    step: np.ndarray

    def __len__(self) -> int:
        return len(self.tokens)

    def at_ends(self) -> Example:
        """Asks for a model's probabilities at the end of every step that has one; the targets mean no class."""
        targets = np.full(len(self), -1, np.int32)
        targets[self.ends[self.ends >= 0]] = 0
        return Example(self.tokens, targets)


class SolutionEncoder:
    """Encodes solutions with a run's prompts and separator.

    White space around a step is dropped and a separator inside of one becomes a space, so that the tokens have the
    steps that the record has. A solution ends as a response does; one known to be unfinished
    (`extra["unfinished"]`) in a separator, as in a response that continues.
    """

    def __init__(
        self,
        splitter: StepSplitter,
        tokenizer: Any,
        prompt: Callable[[str], list[int]],
        response: Callable[[str], list[int]],
    ):
        """`prompt` gives the ids that a model reads of a problem's text, `response` those of a whole response."""
        self._splitter, self._tokenizer, self._prompt, self._response = splitter, tokenizer, prompt, response
        self._inside = separator_pattern(splitter.separator)

    def __call__(self, record: LabelledSolution, lost: Counter[str]) -> EncodedSolution | None:
        """The record's tokens; what cannot be encoded is counted in `lost`, by reason."""
        separator = self._splitter.separator
        written: list[tuple[int, str]] = []
        for i, step in enumerate(record.steps):
            text, inside = self._inside.subn(" ", step.strip())
            # What is left may spell the separator anew ("\n" + " " + "\n" does not, ";" + ";" would not either).
            while self._inside.search(text):
                text = self._inside.sub(" ", text)
            lost["separators inside of a step, written as spaces"] += inside
            if text := text.strip():
                written.append((i, text))
            else:
                lost["empty steps"] += 1
        if not written:
            lost["solutions without text"] += 1
            return None
        text = separator.join(text for _, text in written)
        unfinished = bool(record.extra.get("unfinished"))
        prompt = self._prompt(record.problem)
        response = encode(self._tokenizer, text + separator) if unfinished else self._response(text)
        index, end = self._splitter.split_host(response)
        if int(index.max()) != len(written) - 1:
            lost["solutions whose text holds the tokenizer's special tokens"] += 1
            return None
        ends = np.full(len(record.steps), -1, np.int32)
        numbers = np.array([i for i, _ in written], np.int32)
        ends[numbers[index[end]]] = len(prompt) + np.flatnonzero(end)
        lost["steps without a token of their own"] += len(written) - int(end.sum())
        owner = np.concatenate([np.full(len(prompt), -1, np.int32), numbers[index]])
        return EncodedSolution(np.array([*prompt, *response], np.int32), len(prompt), ends, owner)


def step_targets(record: LabelledSolution, options: PRMOptions, lost: Counter[str]) -> list[Target | None]:
    """Targets from a record's labels by `options.target`, one per step; labels that it cannot use are counted."""
    nothing: list[Target | None] = [None] * len(record.steps)
    if record.kind not in _KINDS[options.target]:
        lost[f"labels of {record.kind}s, which do not fit target {options.target}"] += record.labelled
        return nothing
    if options.target == "outcome":
        if record.correct is None or not record.steps:
            lost["solutions whose outcome is not known"] += 1
            return nothing
        return [*nothing[:-1], Target(GOOD if record.correct else BAD, float(record.correct))]
    if options.target == "prefix" and record.kind == "step":
        return _prefix_targets(record)
    soft = options.objective != "class"
    targets: list[Target | None] = []
    for rating, value in zip(record.ratings, record.values, strict=True):
        if value is not None and (soft or rating is None):
            # A value's hard label: whether any completion was right [Wang 2023]. A probability's: what is likelier.
            good = value > 0 if record.kind == "value" else value >= 0.5
            targets.append(Target(GOOD if good else BAD, value))
        elif rating is None:
            targets.append(None)
        else:
            targets.append(_rated(rating, options.neutral, lost))
    return targets


def _rated(rating: int, neutral: str, lost: Counter[str]) -> Target | None:
    if rating != 0:
        return Target(rating + 1, float(rating > 0))
    if neutral == "skip":
        lost["neutral labels (neutral=skip)"] += 1
        return None
    return {"own": Target(NEUTRAL, 0.5), "good": Target(GOOD, 1.0), "bad": Target(BAD, 0.0)}[neutral]


def _prefix_targets(record: LabelledSolution) -> list[Target | None]:
    """Right up to the first error, wrong from there on [Uesato 2022]; where that is open, up to the last known step."""
    found: list[Target | None] = []
    error, ratings = record.first_error, record.ratings
    for i, rating in enumerate(ratings):
        if error is not None and error != NO_ERROR and i >= error:
            found.append(Target(BAD, 0.0) if i > error or rating is not None else None)
        elif error is None and any(r is None for r in ratings[:i]):
            found.append(None)
        else:
            found.append(None if rating is None else Target(GOOD if rating >= 0 else BAD, float(rating >= 0)))
    return found


def labelled(encoded: EncodedSolution, targets: list[Target | None], *, every_token: bool, soft: bool) -> Example:
    """The example to train on: targets on steps' last tokens, or on all of a step's (of an outcome: on all) tokens."""
    labels = np.full(len(encoded), -1, np.int32)
    labels[: encoded.prompt] = PROMPT
    values = np.zeros(len(encoded), np.float32)
    known = [i for i, target in enumerate(targets) if target is not None]
    for i in known:
        target = targets[i]
        assert target is not None
        if encoded.ends[i] < 0:
            continue
        at: Any = np.array([encoded.ends[i]]) if not every_token else np.flatnonzero(encoded.step == i)
        labels[at], values[at] = target.label, target.good
    return Example(encoded.tokens, labels, values if soft else None)

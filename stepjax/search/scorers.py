"""What rates the prefixes of a search: a process reward model, the task's exact verifier, or nothing."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from stepjax.config import SearchOptions
from stepjax.console.progress import say
from stepjax.distributed.agree import agree_on
from stepjax.errors import UserError
from stepjax.evaluation.scorer import PublicScorer, RunScorer, make_scorer, p_right
from stepjax.measures.aggregate import aggregate
from stepjax.models.flops import product_params
from stepjax.runs.responses import Response, grade_responses
from stepjax.runs.setup import Run
from stepjax.tasks.base import Problem


@dataclasses.dataclass(frozen=True)
class Written:
    """A prefix in tokens, with its problem and prompt."""

    problem: Problem
    prompt: tuple[int, ...]
    tokens: tuple[int, ...]


class Scorer(Protocol):
    """Rates prefixes.

    Attributes:
      oracle: whether it knows what is right, so that what is found with it says nothing of unsolved problems.
      constant: whether all prefixes have the same value, which then says nothing.
      parameters: that a token is multiplied with when it is read; 0: it is no model.
    """

    oracle: bool
    constant: bool
    parameters: int

    def __call__(self, prefixes: Sequence[Written]) -> list[tuple[float, int]]:
        """Of each prefix its value in [0, 1], and how many tokens were read for it."""
        ...

    def read_stage(self, stage: str) -> None:
        """Goes on with the parameters that another stage of the run trained, where it reads the run's own model."""
        ...


class _Uniform:
    """The same value for all: what a search does without a scorer."""

    oracle, constant, parameters = False, True, 0

    def __call__(self, prefixes: Sequence[Written]) -> list[tuple[float, int]]:
        return [(0.5, 0)] * len(prefixes)

    def read_stage(self, stage: str) -> None:
        return


class _Exact:
    """1 where a response is right, or all steps of a prefix are; 0 where not."""

    oracle, constant, parameters = True, False, 0

    def __init__(self, run: Run):
        self.run = run

    def __call__(self, prefixes: Sequence[Written]) -> list[tuple[float, int]]:
        run, ended = self.run, [i for i, p in enumerate(prefixes) if self.run.framing.finished(p.tokens)]
        texts = [run.framing.text(prefixes[i].tokens) for i in ended]
        right = grade_responses(run.task, [prefixes[i].problem for i in ended], texts)
        graded = dict(zip(ended, right, strict=True))
        values = [float(graded[i] if i in graded else self._steps_right(p)) for i, p in enumerate(prefixes)]
        # A grader has a time limit, and every process must go on with the same search.
        return [(value, 0) for value in agree_on(values)] if values else []

    def read_stage(self, stage: str) -> None:
        return

    def _steps_right(self, prefix: Written) -> bool:
        ratings = self.run.task.rate_steps(prefix.problem, self.run.splitter.texts(prefix.tokens)) or []
        return all(rated.rating >= 0 for rated in ratings)


class _Verifier(_Exact):
    """1 where the task's verifier calls no step bad, 0 where it does; of an answer it only sees the steps.

    An oracle where that verifier knows which steps are right; GSM8K's only knows whether calculations hold.
    """

    def __init__(self, run: Run, split: str):
        super().__init__(run)
        rated = run.task.rate_steps(run.task.problems(split)[0], ["?"]) or []
        self.oracle = any(one.correct is not None for one in rated)

    def __call__(self, prefixes: Sequence[Written]) -> list[tuple[float, int]]:
        return [(float(self._steps_right(p)), 0) for p in prefixes]


class _Learned:
    """A process reward model, the run's own or a public one; its scores of all steps become one by `how`."""

    oracle = constant = False

    def __init__(self, run: Run, how: str, stage: str):
        self.run, self.how = run, how
        self._scorer = make_scorer(run, stage)
        self.parameters = _parameters(self._scorer)
        self._told: set[str] = set()

    def __call__(self, prefixes: Sequence[Written]) -> list[tuple[float, int]]:
        run = self.run
        responses = [
            Response(
                p.problem,
                p.prompt,
                p.tokens,
                "",
                run.splitter.texts(p.tokens),
                finished=run.framing.finished(p.tokens),
                correct=False,
                step_ratings=None,
            )
            for p in prefixes
        ]
        scores = self._scorer.score_responses(responses)
        if (told := self._scorer.told_left_out()) and not self._told:
            self._told |= set(told)
            say(f"{told[0]}; their value is 0")
        return [
            (0.0, 0) if one is None else (self._value(p_right(one)), len(p.prompt) + len(p.tokens))
            for one, p in zip(scores, prefixes, strict=True)
        ]

    def read_stage(self, stage: str) -> None:
        if isinstance(self._scorer, RunScorer):
            self._scorer.read_stage(stage)

    def _value(self, scores: np.ndarray) -> float:
        """Rounded, so that it does not depend on what was read in the same batch."""
        return round(aggregate(scores, self.how), 5)


def _parameters(scorer: Any) -> int:
    if isinstance(scorer, RunScorer):
        return product_params(scorer.run.prm)
    assert isinstance(scorer, PublicScorer)
    return product_params(scorer.model.definition)


def _nothing_to_check(run: Run, options: SearchOptions, stepwise: bool, option: str) -> None:
    return


def _check_value(run: Run, options: SearchOptions, stepwise: bool, option: str) -> None:
    if not run.config.prm.path and run.config.prm.target != "value":
        raise UserError(
            f"config.{option}=value: the process reward model here rates steps (config.prm.target="
            f"{run.config.prm.target}) and has no values; take learned, or train one with --config.prm.target=value"
        )


def _check_exact(run: Run, options: SearchOptions, stepwise: bool, option: str) -> None:
    if stepwise and not _rates_steps(run, options):
        raise UserError(
            f"config.{option}=exact: task {run.task.name} has no verifier of single steps, which "
            f"method={options.method} needs; take best_of_n alone, or another prm"
        )


def _check_verifier(run: Run, options: SearchOptions, stepwise: bool, option: str) -> None:
    if not _rates_steps(run, options):
        raise UserError(
            f"config.{option}=verifier: task {run.task.name} has no verifier of single steps; take another prm"
        )


def _rates_steps(run: Run, options: SearchOptions) -> bool:
    return run.task.rate_steps(run.task.problems(options.split)[0], []) is not None


@dataclasses.dataclass(frozen=True)
class ScorerEntry:
    """A scorer.

    Attributes:
      make: from the run, the options, and the stage of the run's own model.
      check: a UserError where it cannot be made; further arguments: whether prefixes that have not ended are
        rated, and the option that names the scorer.
    """

    make: Callable[[Run, SearchOptions, str], Scorer]
    check: Callable[[Run, SearchOptions, bool, str], None] = _nothing_to_check


SCORERS = {
    "learned": ScorerEntry(lambda run, options, stage: _Learned(run, options.aggregate, stage)),
    "value": ScorerEntry(lambda run, options, stage: _Learned(run, "last", stage), _check_value),
    "exact": ScorerEntry(lambda run, options, stage: _Exact(run), _check_exact),
    "verifier": ScorerEntry(lambda run, options, stage: _Verifier(run, options.split), _check_verifier),
    "uniform": ScorerEntry(lambda run, options, stage: _Uniform()),
}
"""By `search.prm`."""


def check_scorer(run: Run, options: SearchOptions, *, stepwise: bool, option: str = "search.prm") -> None:
    """UserError, about this option, where the scorer that it names cannot rate prefixes as the method wants it to."""
    SCORERS[options.prm].check(run, options, stepwise, option)


def search_scorer(
    run: Run, options: SearchOptions, *, stepwise: bool, stage: str = "prm", option: str = "search.prm"
) -> Scorer:
    """The scorer that the options name. UserError, about `option`, where there is none, or where it cannot rate
    prefixes."""
    check_scorer(run, options, stepwise=stepwise, option=option)
    return SCORERS[options.prm].make(run, options, stage)

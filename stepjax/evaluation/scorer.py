"""Process reward models as evaluation sees them: problems and steps in, P(step is right) out."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from stepjax.data.schema import LabelledSolution
from stepjax.measures.step_classes import BAD
from stepjax.models.definition import Params
from stepjax.runs.classifier import StepClassifier
from stepjax.runs.public_prm import load_public_prm, score_responses
from stepjax.runs.responses import Response
from stepjax.runs.setup import Run
from stepjax.runs.stages import has_stage, no_stage, stage_params
from stepjax.tasks.encoding import solution_encoder


class StepScorer(Protocol):
    """A process reward model, whatever its implementation."""

    def score(self, problems: Sequence[str], steps: Sequence[Sequence[str]]) -> list[np.ndarray | None]:
        """P(right) of every step, float[S], of each solution; None for a solution that could not be read.

        An array with a second axis, float[S, 3], holds P(bad), P(neutral) and P(good).
        """
        ...

    def score_responses(self, responses: Sequence[Response]) -> list[np.ndarray | None]:
        """`score` of responses that a policy of this run wrote; S is the number of each one's step texts."""
        ...

    def told_left_out(self) -> list[str]:
        """Sentences for people about what the latest call left out."""
        ...


class RunScorer:
    """The process reward model of a run's own stage prm, or of another one that trains such a model."""

    def __init__(self, run: Run, stage: str = "prm"):
        self.run = run
        self.read_stage(stage)
        self.classifier = StepClassifier(run, rows=run.config.prm.rows, width=run.config.prm.row_tokens)
        self.encoder = solution_encoder(run.prompt, run.splitter)
        self._told: list[str] = []

    def read_stage(self, stage: str) -> None:
        """Takes the parameters of another stage; UserError where it has none. What is compiled stays."""
        if not has_stage(self.run, stage):
            raise no_stage(self.run, stage)
        self.params: Params = {}  # no two models are held at a time
        self.params = stage_params(self.run, stage, self.run.prm)

    def score(self, problems: Sequence[str], steps: Sequence[Sequence[str]]) -> list[np.ndarray | None]:
        """float[S, 3] of each solution, encoded as for training on records."""
        lost: Counter[str] = Counter()
        solutions = [
            self.encoder(LabelledSolution(problem, tuple(some)), lost)
            for problem, some in zip(problems, steps, strict=True)
        ]
        kept = [i for i, s in enumerate(solutions) if s is not None and len(s) <= self.classifier.width]
        examples = [encoded.at_ends() for i in kept if (encoded := solutions[i]) is not None]
        found: list[np.ndarray | None] = [None] * len(solutions)
        for i, scores in zip(kept, self.classifier.at_targets(self.params, examples) if kept else [], strict=True):
            ends = solutions[i].ends  # type: ignore[union-attr]
            found[i] = scores[np.maximum(np.cumsum(ends >= 0) - 1, 0)]
        wide = sum(s is not None for s in solutions) - len(kept)
        self._told = [f"{n} {what}" for what, n in lost.items() if n]
        if wide:
            self._told.append(f"{wide} solutions were longer than prm.row_tokens={self.classifier.width} and not read")
        return found

    def score_responses(self, responses: Sequence[Response]) -> list[np.ndarray | None]:
        """float[S, 3] of each response's steps; S is the number of its step texts."""
        found = score_steps(self.classifier, self.params, responses)
        self._told = self.classifier.told_left_out()
        return found

    def told_left_out(self) -> list[str]:
        """Sentences for people about what the latest call left out."""
        return self._told


class PublicScorer:
    """A public process reward model, as `config.prm.path` names it."""

    def __init__(self, run: Run):
        self.model = load_public_prm(run)
        self._told: list[str] = []

    def score(self, problems: Sequence[str], steps: Sequence[Sequence[str]]) -> list[np.ndarray | None]:
        """float[S, 3] of each solution."""
        found = self.model.score(list(problems), [list(some) for some in steps])
        self._told = self.model.told_left_out()
        return found

    def score_responses(self, responses: Sequence[Response]) -> list[np.ndarray | None]:
        """float[S, 3] of each response's steps."""
        found = score_responses(self.model, responses)
        self._told = self.model.told_left_out()
        return found

    def told_left_out(self) -> list[str]:
        """Sentences for people about what the latest call left out."""
        return self._told


def score_steps(classifier: StepClassifier, params: Any, responses: Sequence[Response]) -> list[np.ndarray | None]:
    """float[S, 3] of each response's steps by parameters of the run's own model, S as many as it has texts of steps."""
    ends = [classifier.run.splitter.split_host(r.tokens) for r in responses]
    return [
        None if p is None else spread(p, index, end, len(r.steps))
        for p, (index, end), r in zip(classifier.by_response(params, responses), ends, responses, strict=True)
    ]


def spread(scores: np.ndarray, index: np.ndarray, end: np.ndarray, steps: int) -> np.ndarray:
    """Scores of all `steps`, from those of the steps with a token; a step without one takes the score before it.

    Args:
      scores: float[k, ...], in the order of the True places of `end`.
      index, end: int[n] and bool[n], the step of each token and the last token of each step.
    """
    own = index[end]
    at = np.searchsorted(own, np.arange(steps), side="right") - 1
    return scores[np.maximum(at, 0)] if len(scores) else np.zeros((steps, *scores.shape[1:]))


def p_right(scores: np.ndarray) -> np.ndarray:
    """float[S] of what a scorer returned: of three classes, 1 − P(bad); a neutral step is right [Lightman 2023]."""
    return scores if scores.ndim == 1 else np.clip(1.0 - scores[:, BAD], 0.0, 1.0)


def make_scorer(run: Run, stage: str = "prm") -> StepScorer:
    """The process reward model that the options name: a public one (`config.prm.path`), else the run's own."""
    return PublicScorer(run) if run.config.prm.path else RunScorer(run, stage)

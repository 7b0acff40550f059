"""Answers to a search's questions by a run's policy and a scorer.

Every question prefills its prefix anew and decodes behind it; what of that was computed before is counted.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepjax.models.definition import Params
from stepjax.parallel import batch_devices, fetch, key_on
from stepjax.rollout.pausable import PausableRollout
from stepjax.rollout.program import RolloutShape
from stepjax.rollout.requests import request
from stepjax.rollout.sampling import Sampler
from stepjax.rollout.stops import StepEnds
from stepjax.runs.setup import Run
from stepjax.search.ask import Asked, Cost, End, Expand, Sampled, Score
from stepjax.search.scorers import Scorer, Written
from stepjax.tasks.encoding import Prompts

NUMBERS = 1 << 15
"""Lines of a problem, at most: with the problem's place they name a random key in 31 bits."""


@dataclasses.dataclass
class _Row:
    """A continuation that is being drawn: what was asked, and what there is of it."""

    at: tuple[int, int]
    problem: int
    question: Expand
    number: int
    tokens: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    end: End | None = None

    @property
    def mode(self) -> tuple[bool, bool]:
        return self.question.greedy, bool(self.question.steps)

    @property
    def begun(self) -> tuple[int, ...]:
        return (*self.question.prefix, *self.tokens)


class Answers:
    """Answers questions of many problems in batches: `stepjax.search.ask.Answer`.

    Attributes:
      costs: of each problem, so far.
    """

    def __init__(
        self,
        run: Run,
        params: Params,
        prompts: Prompts,
        scorer: Scorer,
        *,
        temperature: float = 1.0,
        longest: int = 0,
        rows: int = 64,
        seed: int = 0,
    ):
        """`longest`: tokens of the longest response, 0 for `ppo.max_new_tokens`; `rows`: decoded at once."""
        ppo, devices = run.config.ppo, batch_devices(run.mesh)
        self.run, self.params, self.prompts, self.scorer = run, params, prompts, scorer
        self.longest = longest or ppo.max_new_tokens
        self._shape = RolloutShape(
            -(-rows // devices) * devices,
            prompts.width,
            self.longest,
            block=ppo.block,
            cache_tokens=ppo.cache_tokens,
            resumed=True,
        )
        self._temperature = temperature
        self._key = key_on(run.mesh, seed, 40)
        self._rollouts: dict[tuple[bool, bool], PausableRollout] = {}
        self._ready: Any = None
        self._read: set[int] = set()
        self.costs = [Cost() for _ in prompts.problems]

    @property
    def cost(self) -> Cost:
        return sum(self.costs, Cost())

    def __call__(self, questions: Sequence[Asked]) -> list[Any]:
        answers: list[Any] = [None] * len(questions)
        rows = [
            _Row((i, j), asked.problem, asked.question, number)
            for i, asked in enumerate(questions)
            if isinstance(asked.question, Expand)
            for j, number in enumerate(asked.question.numbers)
        ]
        assert all(0 <= row.number < NUMBERS for row in rows)
        self._draw(rows)
        for row in rows:
            assert row.end is not None
            i, _ = row.at
            answers[i] = [*(answers[i] or []), Sampled(row.tokens, row.logprobs, row.end)]
            self._pay(row.problem, asked=len(row.tokens))
        scored = [(i, a.problem, a.question.prefix) for i, a in enumerate(questions) if isinstance(a.question, Score)]
        if scored:
            written = [self._written(problem, prefix) for _, problem, prefix in scored]
            for (i, problem, _), (value, read) in zip(scored, self.scorer(written), strict=True):
                answers[i] = value
                self._pay(problem, read=read)
        return answers  # a Forget is answered by None, and nothing is kept that it could free

    def _pay(self, problem: int, **tokens: int) -> None:
        self.costs[problem] += Cost(**tokens)

    def _written(self, problem: int, tokens: tuple[int, ...]) -> Written:
        return Written(self.prompts.problems[problem], tuple(self.prompts.tokens[problem]), tokens)

    def _draw(self, rows: list[_Row]) -> None:
        """Draws all of them, those of one kind and of similar length together."""
        waiting = rows
        while waiting:
            mode = waiting[0].mode
            same = sorted((row for row in waiting if row.mode == mode), key=lambda row: len(row.begun))
            some = same[: self._shape.rows]
            self._some(mode, some)
            waiting = [row for row in waiting if row.end is None]

    def _rollout(self, mode: tuple[bool, bool]) -> PausableRollout:
        if mode not in self._rollouts:
            greedy, stepwise = mode
            self._rollouts[mode] = PausableRollout(
                self.run.policy,
                self.run.mesh,
                self._shape,
                eos=self.run.framing.ends,
                sampler=Sampler(0.0 if greedy else self._temperature),
                stops=StepEnds(self.run.splitter) if stepwise else None,
                gather=self.run.config.mesh.gather_to_decode,
            )
        if self._ready is None:
            self._ready = self._rollouts[mode].prepare(self.params)
        return self._rollouts[mode]

    def _some(self, mode: tuple[bool, bool], rows: list[_Row]) -> None:
        """One run of the engine, `shape.rows` at most: each is drawn to the next end of a step, or to its own end."""
        rollout = self._rollout(mode)
        shape: Any = rollout.shape
        texts = [(*self.prompts.tokens[row.problem], *row.begun) for row in rows]
        different = list(dict.fromkeys(texts))
        place = {text: i for i, text in enumerate(different)}
        record: Any = rollout.no_record()
        starts = np.zeros(shape.rows, np.int32)
        for i, row in enumerate(rows):
            starts[i] = len(row.begun)
            record.tokens[i, : starts[i]] = row.begun
        for text, problem in {text: row.problem for row, text in zip(rows, texts, strict=True)}.items():
            self._prefilled(problem, text)
        ids = np.array([row.problem * NUMBERS + row.number for row in rows], np.int64)
        limits = np.full(len(rows), self.longest)
        chosen = [place[text] for text in texts]
        tokens, length, queue = request(different, chosen, ids, limits, shape, rollout.devices, starts=starts)
        state = rollout.start(self._ready, tokens, length, self._key, queue, record)
        while not state.done:
            state = rollout.turn(self._ready, state, self.longest)
        found = rollout.rows(state)
        words, logprobs, lengths = fetch((found.tokens, found.logprobs, found.response_length))
        for i, row in enumerate(rows):
            drawn = slice(shape.prompt_width + starts[i], shape.prompt_width + lengths[i])
            self._take(row, words[i, drawn].tolist(), logprobs[i, drawn].astype(float).tolist())

    def _prefilled(self, problem: int, text: tuple[int, ...]) -> None:
        new = 0 if problem in self._read else len(self.prompts.tokens[problem])
        self._read.add(problem)
        self._pay(problem, prefilled=new, computed_again=len(text) - new)

    def _take(self, row: _Row, tokens: list[int], logprobs: list[float]) -> None:
        """Adds what was drawn, up to the end that was asked for: the engine may see the end of a step late where the
        token before it belongs to two steps."""
        self._pay(row.problem, generated=len(tokens))
        row.tokens, row.logprobs = (*row.tokens, *tokens), (*row.logprobs, *logprobs)
        if row.question.steps:
            before = len(row.question.prefix)
            ends = np.flatnonzero(self.run.splitter.ends_host(row.begun)[before:])
            if len(ends) >= row.question.steps:
                count = int(ends[row.question.steps - 1]) + 1
                row.tokens, row.logprobs = row.tokens[:count], row.logprobs[:count]
                row.end = End.STEP
        if self.run.framing.finished(row.tokens):
            row.end = End.RESPONSE
        elif len(row.begun) >= self.longest:
            row.end = End.CUT

"""Continuations by a run's policy: each prefix is prefilled anew, and decoded behind.

What of that was computed before is counted.
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
from stepjax.search.ask import NUMBERS, Asked, Cost, End, Expand, Sampled
from stepjax.tasks.encoding import WIDTH_UNIT


def ends_host(splitter: Any, tokens: Sequence[int]) -> np.ndarray:
    """Which tokens of one response complete a step, bool[n], on the host: the step has begun, and its separator is
    complete with this token. White space behind a complete separator completes nothing."""
    tables, state, found = splitter._host_tables, 0, np.zeros(len(tokens), bool)
    pending = len(tables.next_state) - 1
    for i, token in enumerate(tokens):
        if not 0 <= token < tables.next_state.shape[1]:
            continue
        opened, after = int(tables.opens_total[state, token]), int(tables.next_state[state, token])
        begun = splitter._inside <= state < pending
        found[i] = opened + begun > 1 or (after == pending and opened + begun > 0)
        state = after
    return found


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


class PrefilledContinuations:
    """Answers `Expand` and `Forget` of many problems in batches.

    Attributes:
      costs: of each problem, so far; `read` stays 0.
    """

    def __init__(
        self,
        run: Run,
        params: Params,
        prompts: Sequence[Sequence[int]],
        *,
        temperature: float,
        longest: int,
        rows: int,
        seed: int,
    ):
        """
        Args:
          prompts: token ids of each problem's prompt, by `Asked.problem`.
          longest: tokens of the longest response.
          rows: decoded at once, about.
        """  # fmt: skip
        ppo, devices = run.config.ppo, batch_devices(run.mesh)
        self.run, self.params, self.prompts, self.longest = run, params, prompts, longest
        self._shape = RolloutShape(
            -(-rows // devices) * devices,
            -(-max(map(len, prompts)) // WIDTH_UNIT) * WIDTH_UNIT,
            longest,
            block=ppo.block,
            cache_tokens=ppo.cache_tokens,
            resumed=True,
        )
        self._temperature = temperature
        self._key = key_on(run.mesh, seed, 40)
        self._rollouts: dict[tuple[bool, bool], PausableRollout] = {}
        self._ready: Any = None
        self._read: set[int] = set()
        self.costs = [Cost() for _ in prompts]

    def __call__(self, asked: Sequence[Asked]) -> list[Any]:
        """Lists of `Sampled`, and None for what is forgotten: nothing is kept that it could free."""
        answers: list[Any] = [None] * len(asked)
        rows = [
            _Row((i, j), one.problem, one.question, number)
            for i, one in enumerate(asked)
            if isinstance(one.question, Expand)
            for j, number in enumerate(one.question.numbers)
        ]
        assert all(0 <= row.number < NUMBERS for row in rows)
        self._draw(rows)
        for row in rows:
            assert row.end is not None
            i, _ = row.at
            answers[i] = [*(answers[i] or []), Sampled(row.tokens, row.logprobs, row.end)]
            self._pay(row.problem, asked=len(row.tokens))
        return answers

    def _pay(self, problem: int, **tokens: int) -> None:
        self.costs[problem] += Cost(**tokens)

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
        texts = [(*self.prompts[row.problem], *row.begun) for row in rows]
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
        new = 0 if problem in self._read else len(self.prompts[problem])
        self._read.add(problem)
        self._pay(problem, prefilled=new, computed_again=len(text) - new)

    def _take(self, row: _Row, tokens: list[int], logprobs: list[float]) -> None:
        """Adds what was drawn, up to the end that was asked for: the engine may see the end of a step late where the
        token before it belongs to two steps."""
        self._pay(row.problem, generated=len(tokens))
        row.tokens, row.logprobs = (*row.tokens, *tokens), (*row.logprobs, *logprobs)
        if row.question.steps:
            before = len(row.question.prefix)
            ends = np.flatnonzero(ends_host(self.run.splitter, row.begun)[before:])
            if len(ends) >= row.question.steps:
                count = int(ends[row.question.steps - 1]) + 1
                row.tokens, row.logprobs = row.tokens[:count], row.logprobs[:count]
                row.end = End.STEP
        if self.run.framing.finished(row.tokens):
            row.end = End.RESPONSE
        elif len(row.begun) >= self.longest:
            row.end = End.CUT

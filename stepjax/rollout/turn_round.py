"""One rollout with an environment that answers over turns: rows leave for it, come back, and end.

Of several processes each answers its own rows, and all know which rows go on, with what.
"""

import dataclasses
import json
import time
from typing import Any

import jax
import numpy as np

from stepjax.config import EnvironmentOptions
from stepjax.host_rows import HostRows, share_bytes
from stepjax.models.definition import Params
from stepjax.rollout.adding import Row
from stepjax.rollout.pausable import PausableRollout, Pause
from stepjax.rollout.program import RolloutShape
from stepjax.rollout.record import Occupancy
from stepjax.rollout.requests import request
from stepjax.rollout.talks import Talk, Words, answered
from stepjax.tasks.environment_pool import EnvironmentPool
from stepjax.tasks.turns import DONE, TOKENS
from stepjax.trajectory import Trajectory, Turns

FIRST_SECONDS = 0.25
"""How long the first rows are waited for, so that they begin together."""

IDLE_SECONDS = 0.05
"""Between two looks at the replies while no row decodes."""


@dataclasses.dataclass
class Use:
    """Seconds × slots, while there are at least as many responses that are not over as slots.

    Attributes:
      decoding: in which a response decoded.
      prefilling: while responses that go on were prefilled.
      all: of the rollout.
    """

    decoding: float = 0.0
    prefilling: float = 0.0
    all: float = 0.0

    @property
    def shares(self) -> dict[str, float]:
        """Of decoding and prefilling; the rest is idle."""
        whole = self.all or 1.0
        return {"decoding": self.decoding / whole, "prefilling": self.prefilling / whole}


@dataclasses.dataclass
class TurnSizes:
    """What rounds of one size have in common.

    Attributes:
      rollout: its programs; `shape`: its sizes; `hosts`: which rows are this process's.
      options, pool, words: of the environment.
    """

    rollout: PausableRollout
    shape: RolloutShape
    hosts: HostRows
    options: EnvironmentOptions
    pool: EnvironmentPool
    words: Words


class TurnRound:
    """The rows of one call.

    Attributes:
      use: of the slots so far.
    """

    def __init__(self, of: TurnSizes, talks: list[Talk], ids: np.ndarray):
        self.of, self.talks, self.ids = of, talks, ids
        self.mine = {row for row in of.hosts.mine.tolist() if row < len(talks)}
        self.decoding: set[int] = set()
        self.waiting: list[int] = []  # rows that may go on, once the cache has room
        self.over: set[int] = set()
        self.slots = of.rollout.decoding.slots
        self.use = Use()

    def run(self, params: Params, key: jax.Array) -> tuple[Trajectory, Occupancy]:
        of, rollout = self.of, self.of.rollout
        for row in sorted(self.mine):
            of.pool.reset(row, self.talks[row].problem)
        ready = rollout.prepare(params)
        self._answers(FIRST_SECONDS, everything=True)
        state = self._start(ready, key)
        while len(self.over) < len(self.talks):
            before, began = int(state.read.decoding), time.perf_counter()
            if self.decoding:
                state = rollout.turn(ready, state, of.options.steps)
            after, turned = int(state.read.decoding), time.perf_counter()
            self._ended(state)
            self._answers(0.0 if self.decoding else IDLE_SECONDS)
            looked = time.perf_counter()
            state = self._go_on(ready, state)
            added = time.perf_counter() if state.read.decoding else looked
            if len(self.talks) - len(self.over) >= self.slots:
                self.use.decoding += (turned - began) * (before + after) / 2
                self.use.prefilling += (added - looked) * self.slots
                self.use.all += (time.perf_counter() - began) * self.slots
        return self._taken(state), state.seen.occupancy

    def _start(self, ready: Any, key: jax.Array) -> Pause:
        """The rollout, with the rows whose environments have begun."""
        of, shape = self.of, self.of.rollout.shape
        texts = [[*talk.prompt, *talk.tokens] for talk in self.talks]
        chosen, ids, limits, starts = (np.zeros(shape.rows, np.int32) for _ in range(4))
        record: Any = of.rollout.no_record()
        begin, self.waiting = set(self.waiting), []
        for row, talk in enumerate(self.talks):
            chosen[row], ids[row] = row, self.ids[row]
            if row in begin:
                limits[row], starts[row] = self._limit(talk), len(talk.tokens)
                record.tokens[row, : len(talk.tokens)] = talk.tokens
        texts, chosen = _once(texts, chosen)
        self.decoding = begin
        inputs = request(texts, chosen, ids, limits, shape, of.rollout.devices, starts=starts)
        return of.rollout.start(ready, inputs[0], inputs[1], key, inputs[2], record)

    def _limit(self, talk: Talk) -> int:
        most, turn = self.of.shape.new_tokens, self.of.options.turn_tokens
        return min(most, len(talk.tokens) + turn) if turn else most

    def _ended(self, state: Pause) -> None:
        """Turns that have ended go to their environments."""
        ended = [row for row in state.finished().tolist() if row in self.decoding]
        self.decoding -= set(ended)
        if not ended:
            return
        record = state.arrays.now.record
        columns = (record.tokens, record.logprobs, record.kept)
        local = dict(zip(self.of.hosts.mine.tolist(), zip(*self._columns(columns), strict=True), strict=True))
        for row in ended:
            if row not in self.mine:
                continue
            talk, count = self.talks[row], int(state.read.length[row])
            tokens, logprobs, kept = (None if x is None else x[:count] for x in local[row])
            turn = talk.drew(tokens, logprobs, kept)
            if count >= self.of.shape.new_tokens and not state.read.finished[row]:
                talk.cause = TOKENS
            else:
                self.of.pool.step(row, self.of.words.text(turn))

    def _columns(self, columns: Any) -> list[Any]:
        found = self.of.hosts.local(columns)
        return [[None] * len(self.of.hosts.mine) if x is None else x for x in found]

    def _answers(self, seconds: float, *, everything: bool = False) -> None:
        """Takes the answers that are there, at the latest after `seconds`, and lets all processes know."""
        end, news = time.perf_counter() + seconds, set()
        while True:
            left = max(end - time.perf_counter(), 0.0)
            for answer in self.of.pool.poll(left):
                talk = self.talks[answer.row]
                answered(talk, answer, self.of.words, self.of.options, self.of.shape.new_tokens)
                news.add(answer.row)
            if not left or (news and not everything) or not self.of.pool.busy:
                break
        news |= {row for row in self.mine - self.over if self.talks[row].over}
        for row, cause, tokens in _shared([(row, self.talks[row].cause, self.talks[row].tokens) for row in news]):
            talk = self.talks[row]
            if row not in self.mine:
                talk.tokens, talk.cause = tokens, cause
            if cause >= 0:
                self.over.add(row)
                self.of.pool.forget(row) if row in self.mine else None
            else:
                self.waiting.append(row)
        self.waiting.sort()

    def _go_on(self, ready: Any, state: Pause) -> Pause:
        """Rows with a reply go on behind it; they are prefilled anew with all that they have."""
        rows = self._with_room(state)
        portion = self.of.rollout.added * self.of.rollout.devices
        if not rows or (len(rows) < portion and state.read.waiting >= self.slots):
            return state
        self.waiting = [row for row in self.waiting if row not in set(rows)]
        self.decoding |= set(rows)
        return self.of.rollout.add(ready, state, [self._row(row) for row in rows])

    def _row(self, row: int) -> Row:
        talk, form = self.talks[row], self.of.rollout.programs.form
        count = len(talk.tokens)
        kept = talk.kept
        if form is not None and (kept is None or len(kept) != count):  # begins, or is another process's
            kept = np.zeros((count, form.words), form.dtype)
        logprobs = talk.logprobs if len(talk.logprobs) == count else [0.0] * count
        return Row(row, talk.prompt, int(self.ids[row]), self._limit(talk), talk.tokens, logprobs, kept)

    def _with_room(self, state: Pause) -> list[int]:
        """The waiting rows whose beginnings the cache holds beside those of the rows that decode."""
        rollout = self.of.rollout
        d, each = rollout.decoding, rollout.shape.rows // rollout.devices
        if not d.page or not self.waiting:
            return list(self.waiting)

        def blocks(row: int) -> int:  # of what it begins with
            return (len(self.talks[row].prompt) + len(self.talks[row].tokens) - 1) // d.page

        used = np.zeros(rollout.devices, int)
        for row in self.decoding:
            used[row // each] += blocks(row)
        found = []
        for row in self.waiting:
            device, needs = row // each, blocks(row)
            if not used[device] or used[device] + needs + d.own_blocks <= d.blocks:
                used[device] += needs
                found.append(row)
        return found

    def _taken(self, state: Pause) -> Trajectory:
        rows = self.of.rollout.rows(state)
        shape, first = rows.tokens.shape, rows.prompt_width
        written, rated = np.zeros(shape, bool), np.zeros(shape, bool)
        rewards, cause, finished = np.zeros(shape, np.float32), np.zeros(shape[0], np.int32), np.zeros(shape[0], bool)
        for row in self.mine:
            talk = self.talks[row]
            written[row, first : first + len(talk.written)] = talk.written
            for at, reward in talk.rewards:
                rewards[row, first + at], rated[row, first + at] = reward, True
            cause[row], finished[row] = talk.cause, talk.cause == DONE
        own = self.of.hosts.mine
        found = self.of.hosts.put([x[own] for x in (written, rewards, rated, cause, finished)])
        written, rewards, rated, cause, finished = found
        return dataclasses.replace(
            rows,
            env_tokens=written,
            turns=Turns(rewards, rated, cause),
            finished=finished,  # type: ignore[arg-type]
        )


def _once(texts: list[list[int]], chosen: np.ndarray) -> tuple[list[list[int]], np.ndarray]:
    """Each different text once, and the place of each row's."""
    place: dict[tuple[int, ...], int] = {}
    for text in texts:
        place.setdefault(tuple(text), len(place))
    return [list(text) for text in place], np.array([place[tuple(texts[i])] for i in chosen.tolist()], np.int32)


def _shared(own: list[tuple[int, int, list[int]]]) -> list[tuple[int, int, list[int]]]:
    """What each process has to say of its rows, to all of them."""
    if jax.process_count() == 1:
        return own
    found = [tuple(item) for part in share_bytes(json.dumps(own).encode()) for item in json.loads(part)]
    return found  # type: ignore[return-value]

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
from stepjax.rollout.slot_use import Use
from stepjax.rollout.slots import Hold
from stepjax.rollout.talks import Talk, Words, answered
from stepjax.rollout.turn_room import Going, TurnRoom
from stepjax.tasks.environment_pool import EnvironmentPool
from stepjax.tasks.turns import DONE, TOKENS
from stepjax.trajectory import Trajectory, Turns

FIRST_SECONDS = 0.25
"""How long the first rows are waited for, so that they begin together."""

IDLE_SECONDS = 0.05
"""Between two looks at the replies while no row decodes."""


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
      decoding: the rows that decode or wait for a slot, and the blocks that each may take.
      waiting: rows that may go on, once the cache has room.
      cached: the rows that are held, and how many tokens of each response the cache holds; in the order in which they
        ended.
      loose: rows that are held for nothing.
    """

    def __init__(self, of: TurnSizes, talks: list[Talk], ids: np.ndarray):
        self.of, self.talks, self.ids = of, talks, ids
        self.mine = {row for row in of.hosts.mine.tolist() if row < len(talks)}
        self.decoding: dict[int, int] = {}
        self.waiting: list[int] = []
        self.cached: dict[int, int] = {}
        self.loose: list[int] = []
        self.over: set[int] = set()
        self.slots = of.rollout.decoding.slots
        # Where all tokens are in columns, those of the prompts stay.
        self._new = set() if of.rollout.decoding.page else set(range(len(talks)))
        self.use = Use()

    def run(self, params: Params, key: jax.Array) -> tuple[Trajectory, Occupancy]:
        of, rollout = self.of, self.of.rollout
        for row in sorted(self.mine):
            of.pool.reset(row, self.talks[row].problem)
        ready = rollout.prepare(params)
        self._answers(FIRST_SECONDS, everything=True)
        state = self._start(ready, key)
        while len(self.over) < len(self.talks):
            before, began, spent = state.read.occupancy, time.perf_counter(), Use()
            if self.decoding:
                state = rollout.turn(ready, state, of.options.steps)
                after = state.read.occupancy
                spent.decoded(time.perf_counter() - began, before, after)
            self._ended(state)
            self._answers(0.0 if self.decoding else IDLE_SECONDS)
            looked = time.perf_counter()
            state = self._go_on(ready, state)
            added = time.perf_counter() if state.read.decoding else looked
            spent.prefilling += (added - looked) * self.slots
            spent.all += (time.perf_counter() - began) * self.slots
            if len(self.talks) - len(self.over) >= self.slots:
                self.use += spent
        self.use.fed = int(state.read.occupancy.given)
        return self._taken(state), state.seen.occupancy

    def _start(self, ready: Any, key: jax.Array) -> Pause:
        """The rollout, with the rows whose environments have begun; these read what stands before their first turn."""
        of, shape = self.of, self.of.rollout.shape
        chosen, ids, limits, starts, given = (np.zeros(shape.rows, np.int32) for _ in range(5))
        record: Any = of.rollout.no_record()
        begin = [row for row in self.waiting if len(self.talks[row].tokens) <= of.options.fed_tokens]
        self.waiting = [row for row in self.waiting if row not in set(begin)]
        texts, chosen[: len(self.talks)] = _once([list(talk.prompt) for talk in self.talks])
        ids[: len(self.talks)] = self.ids
        for row in begin:
            tokens = self.talks[row].tokens
            limits[row], given[row], record.tokens[row, : len(tokens)] = self._limit(row), len(tokens), tokens
        self._begin(begin, [0] * len(begin))
        inputs, lengths, queue = request(texts, chosen, ids, limits, shape, of.rollout.devices, starts=starts)
        queue = dataclasses.replace(queue, hold=np.full(shape.rows, self._hold, np.int32), given=given)  # type: ignore[arg-type]
        return of.rollout.start(ready, inputs, lengths, key, queue, record)

    @property
    def _hold(self) -> Hold:
        return Hold.ENDED if self.of.options.fed_tokens else Hold.NEVER

    @property
    def _room(self) -> TurnRoom:
        return TurnRoom(self.of.rollout, self.decoding, list(self.cached))

    def _begin(self, rows: list[int], starts: list[int]) -> None:
        """Rows decode, from these numbers of tokens on."""
        self.decoding |= {row: self._room.takes(at, self._limit(row)) for row, at in zip(rows, starts, strict=True)}
        self._new -= set(rows)
        for row in rows:
            self.cached.pop(row, None)

    def _limit(self, row: int) -> int:
        most, turn = self.of.shape.new_tokens, self.of.options.turn_tokens
        return min(most, len(self.talks[row].tokens) + turn) if turn else most

    def _ended(self, state: Pause) -> None:
        """Turns that have ended go to their environments."""
        ended = [row for row in state.finished().tolist() if row in self.decoding]
        held = np.asarray(state.read.held)
        for row in ended:
            del self.decoding[row]
            if held[row]:
                self.cached[row] = int(state.read.length[row])
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
            if cause >= 0 or len(tokens) - self.cached.get(row, 0) > self.of.options.fed_tokens:
                self._let_go([row])
        self.waiting.sort()

    def _let_go(self, rows: list[int]) -> None:
        """Rows are held no longer, those of them that are."""
        self.loose += [row for row in rows if self.cached.pop(row, None) is not None]
        self._new -= set(rows)

    def _go_on(self, ready: Any, state: Pause) -> Pause:
        """Rows with a reply go on: behind what is held of them, or prefilled anew with all that they have."""
        rollout, portion = self.of.rollout, self.of.rollout.added * self.of.rollout.devices
        state = self._kept_room(ready, state)
        if len(self.waiting) < portion and state.read.waiting >= self.slots:
            return state
        rows = self._room.going(_room_of(state), self._going())
        if not rows:
            return state
        self.waiting = [row for row in self.waiting if row not in set(rows)]
        found = [self._row(row) for row in rows]
        self.use.prefilled_again += sum(len(row.ids) for row in found if row.begun)
        self._begin(rows, [len(row.begun) if row.cached < 0 else row.cached for row in found])
        loose, self.loose = self.loose, []
        return rollout.add(ready, state, found, release=loose)

    def _kept_room(self, ready: Any, state: Pause) -> Pause:
        """With room for what decodes and, where slots are empty, for what goes on."""
        if state.read.room is None:
            return state
        count = 1
        while self.loose or (gone := self._room.gone(_room_of(state), self._going(), count)):
            if not self.loose:
                self._let_go(gone)
                count *= 2
            loose, self.loose = self.loose, []
            state = self.of.rollout.add(ready, state, [], release=loose)
        return state

    def _going(self) -> list[Going]:
        room, found = self._room, []
        for row in self.waiting:
            talk = self.talks[row]
            start, is_held = self._start_of(row), row in self.cached
            begins = 0 if is_held else room.blocks(len(talk.prompt) + len(talk.tokens))
            found.append(Going(row, begins, room.takes(start, self._limit(row))))
        return found

    def _start_of(self, row: int) -> int:
        """The tokens of a row's response that it need not read when it goes on."""
        return self.cached.get(row, 0 if row in self._new else len(self.talks[row].tokens))

    def _row(self, row: int) -> Row:
        talk, form = self.talks[row], self.of.rollout.programs.form
        count = len(talk.tokens)
        kept = talk.kept
        if form is not None and (kept is None or len(kept) != count):  # begins, or is another process's
            kept = np.zeros((count, form.words), form.dtype)
        logprobs = talk.logprobs if len(talk.logprobs) == count else [0.0] * count
        begun = talk.tokens, logprobs, kept
        cached = self._start_of(row) if row in self.cached or row in self._new else -1
        limit = self._limit(row)
        return Row(row, talk.prompt, int(self.ids[row]), limit, *begun, hold=self._hold, cached=cached)

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


def _room_of(state: Pause) -> np.ndarray | None:
    return None if state.read.room is None else np.asarray(state.read.room)


def _once(texts: list[list[int]]) -> tuple[list[list[int]], np.ndarray]:
    """Each different text once, and the place of each."""
    place: dict[tuple[int, ...], int] = {}
    for text in texts:
        place.setdefault(tuple(text), len(place))
    return [list(text) for text in place], np.array([place[tuple(text)] for text in texts], np.int32)


def _shared(own: list[tuple[int, int, list[int]]]) -> list[tuple[int, int, list[int]]]:
    """What each process has to say of its rows, to all of them."""
    if jax.process_count() == 1:
        return own
    found = [tuple(item) for part in share_bytes(json.dumps(own).encode()) for item in json.loads(part)]
    return found  # type: ignore[return-value]

"""Answers to `Expand` and `Forget` for many problems at once, from caches that stay on the devices.

A prefix that a continuation ended in with a step is a row that the rollout holds: whatever is asked behind it begins
there, and nothing of it is computed again. Prefixes that nobody asked about for long go when room is short; they are
prefilled anew if they are asked about after all.
"""

import collections
import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from stepjax.errors import UserError
from stepjax.models import Definition, LanguageModel
from stepjax.models.definition import Params
from stepjax.parallel import batch_devices, only_asked_transfers
from stepjax.rollout.adding import Branch, Row
from stepjax.rollout.pausable import PausableRollout, Pause
from stepjax.rollout.sampling import Sampler
from stepjax.rollout.slots import Hold
from stepjax.rollout.stops import Stops
from stepjax.search.ask import NUMBERS, Asked, Cost, End, Expand, Forget
from stepjax.search.ends import sampled
from stepjax.search.live_sizes import LiveSizes
from stepjax.search.prefixes import Known, Nodes, Prefix

SHORT, LONG = 16, 128
"""Steps of a turn while continuations wait for a row, and else."""


@dataclasses.dataclass(frozen=True)
class _Job:
    """One continuation: number `place` of those of question `of`."""

    of: int
    place: int
    prefix: Prefix
    question: Expand


class LiveAnswers:
    """Called with questions, gives their answers in order.

    A continuation whose last step is complete with the response's last possible token is cut: nothing goes on behind.

    Attributes:
      costs: of each problem, so far; `read` stays 0.
      redrawn: tokens that were decoded and put back, because blocks were short, or belong to no answer yet.
      shared: tokens of prompts and prefixes that questions found in live caches. `shared + cost.computed_again` is what
        prefilling the prefix of each question would compute again.
    """

    def __init__(
        self,
        definition: Definition[LanguageModel],
        mesh: Mesh,
        params: Params,
        prompts: Sequence[Sequence[int]],
        sizes: LiveSizes,
        *,
        key: jax.Array,
        ends: tuple[int, ...],
        sampler: Sampler,
        steps: Stops,
        gather: bool = True,
        rollout: PausableRollout | None = None,
    ):
        """
        Args:
          prompts: token ids of each problem's prompt, by `Asked.problem`.
          key: on the devices; it stands for the seed.
          ends: the ids that end a response.
          steps: the stops that end a step, `StepEnds`.
          gather: as of `rollout_program`. rollout: that of earlier answers of the same sizes, which is compiled.
        """  # fmt: skip
        if len(prompts) > (1 << 31) // NUMBERS:
            raise ValueError(f"{len(prompts)} problems: at most {(1 << 31) // NUMBERS} have keys of their own")
        shape, made = sizes.shape(batch_devices(mesh)), PausableRollout
        self.rollout = rollout or made(definition, mesh, shape, eos=ends, sampler=sampler, stops=steps, gather=gather)
        self.prompts, self.sizes, self._key, self.ready = prompts, sizes, key, self.rollout.prepare(params)
        self.restart()

    def restart(self) -> None:
        """Forgets all questions, prefixes and costs, as if just made; nothing is compiled or loaded again."""
        self.state: Pause = self.rollout.empty(self.ready, self._key)
        self.nodes = Nodes(self.rollout.devices, self.sizes.rows // self.rollout.devices)
        self.known = Known()
        self.costs = [Cost() for _ in self.prompts]
        self.redrawn = self.shared = self._drawn = 0
        self._answers: list[Any] = []
        self._missing: dict[int, int] = {}  # continuations that an answer lacks
        self._waiting: list[_Job] = []
        self._running: dict[int, _Job] = {}
        self._forgotten: list[Prefix] = []  # as soon as nothing waits to begin behind them
        self._loose: list[int] = []  # rows that are held for nobody

    def __call__(self, asked: Sequence[Asked]) -> list[Any]:
        """`Expand` is answered by a list of `Sampled`, `Forget` by None; other questions are a ValueError."""
        numbers = self.ask(asked)
        found: dict[int, Any] = {}
        while len(found) < len(numbers):
            found |= self.poll(SHORT if self._waiting else LONG)
        return [found[number] for number in numbers]

    @property
    def cost(self) -> Cost:
        """Of all problems, with what was decoded more than once."""
        return sum(self.costs, Cost(generated=self.redrawn))

    @property
    def open(self) -> int:
        """Continuations that decode or wait."""
        return len(self._waiting) + len(self._running)

    def ask(self, asked: Sequence[Asked]) -> range:
        """Takes questions, which `poll` answers by these numbers."""
        first = len(self._answers)
        for number, one in enumerate(asked, first):
            question = one.question
            self._answers.append(None)
            self._missing[number] = 0
            if isinstance(question, Expand):
                if len(question.prefix) >= self.sizes.new_tokens:
                    raise ValueError(f"a prefix of {len(question.prefix)} tokens: nothing goes on behind it")
                self._missing[number], self._answers[number] = (n := len(question.numbers)), [None] * n
                prefix = (one.problem, question.prefix)
                self._waiting += [_Job(number, place, prefix, question) for place in range(len(question.numbers))]
            elif not isinstance(question, Forget):
                raise ValueError(f"a rollout does not answer {type(question).__name__}")
        for one in asked:
            if isinstance(one.question, Forget):
                self._forgotten += [(one.problem, prefix) for prefix in one.question.prefixes]
        return range(first, len(self._answers))

    def poll(self, steps: int = SHORT) -> dict[int, Any]:
        """Decodes for some steps; the answers that are complete now, by the numbers of their questions."""
        with only_asked_transfers():
            self._forget()
            self._waiting = self._begin(self._waiting)
            if self._running:
                self.state = self.rollout.turn(self.ready, self.state, steps)
                self._collect()
        complete = [number for number, missing in self._missing.items() if not missing]
        found = {number: self._answers[number] for number in complete}
        for number in complete:
            self._answers[number] = None
            del self._missing[number]
        return found

    def _forget(self) -> None:
        needed = {job.prefix for job in self._waiting}
        self._forgotten, gone = (
            [p for p in self._forgotten if p in needed],
            [p for p in self._forgotten if p not in needed],
        )
        self._loose += [row for prefix in gone if (row := self.nodes.rows.pop(prefix, None)) is not None]

    def _begin(self, waiting: list[_Job]) -> list[_Job]:
        """Lets as many continuations begin as find rows; the others still wait."""
        later: list[_Job] = []
        texts: list[Row] = []
        branches: list[tuple[_Job, Branch]] = []
        needed, begun = {job.prefix for job in waiting}, set[Prefix]()
        self._keep_room({*range(self.rollout.devices)}, needed)
        free = self._free_rows()
        decode, slots = collections.Counter(map(self.nodes.on, self._running)), self.sizes.slots // self.rollout.devices
        for job in waiting:
            device, prefix = self.nodes.device(job.prefix[0]), job.prefix
            is_held = self.nodes.find(prefix) is not None
            keep = needed if self._running or begun else begun
            # Nothing is forgotten for rows that would only wait for a slot.
            while len(free[device]) < 2 - is_held and decode[device] < slots:
                if (gone := self._evicted(device, keep | {prefix})) is None:
                    break
                free[device].append(gone)
            text = None if is_held else self._text(prefix)
            planned = begun | {prefix}
            if len(free[device]) < 2 - is_held or (
                text and not self._has_blocks(device, [*texts, text], needed, planned)
            ):
                later.append(job)
                continue
            if text is not None:
                texts.append(dataclasses.replace(text, row=free[device].pop(0)))
                self._read(prefix, texts[-1].row)
            elif not job.place:
                self.shared += len(self.prompts[prefix[0]]) + len(prefix[1])
            branches.append((job, self._branch(job, free[device].pop(0))))
            begun.add(prefix)
            decode[device] += 1
        if later and not branches and not self._running:
            raise UserError(
                "config.ppo.cache_tokens: the cache does not hold a prefix that is asked about and one response of the "
                "greatest length behind it; raise it"
            )
        if branches:
            self._add(texts, branches)
        return later

    def _text(self, prefix: Prefix) -> Row:
        """A row that shall hold a prefix, whose tokens the policy reads for it."""
        problem, ids = prefix
        return Row(-1, self.prompts[problem], 0, begun=ids, logprobs=[0.0] * len(ids), draws=False)

    def _read(self, prefix: Prefix, row: int) -> None:
        first, again = self.known.split(prefix, len(self.prompts[prefix[0]]))
        self.known.prefixes |= {prefix, (prefix[0], ())}
        self.costs[prefix[0]] += Cost(prefilled=first, computed_again=again)
        self.nodes.rows[prefix] = row

    def _branch(self, job: _Job, row: int) -> Branch:
        question, problem = job.question, job.prefix[0]
        # What is sampled to its end, or only looked at, is not asked about again.
        hold = Hold.STOPPED if question.steps and not question.greedy else Hold.NEVER
        number = problem * NUMBERS + question.numbers[job.place]
        of = self.nodes.rows[job.prefix]
        return Branch(row, of, number, steps=question.steps, hold=hold, greedy=question.greedy)

    def _add(self, texts: list[Row], branches: list[tuple[_Job, Branch]]) -> None:
        """Lets rows begin, and those go that nobody needs."""
        loose, self._loose = self._loose, []
        rows = [branch for _, branch in branches]
        self.state = self.rollout.add(self.ready, self.state, [*texts, *rows], release=loose)
        self._running |= {branch.row: job for job, branch in branches}

    def _free_rows(self) -> list[list[int]]:
        """Of each device."""
        busy = {*self._running, *self.rollout.read_rows(self.state)}
        return [self.nodes.free(device, busy) for device in range(self.rollout.devices)]

    def _evicted(self, device: int, keep: Collection[Prefix]) -> int | None:
        """The row of the prefix on a device that was asked about least recently, which is forgotten; None: all are to
        be kept, or read by rows that have not ended."""
        read = self.rollout.read_rows(self.state)
        found = self.nodes.oldest(device, lambda prefix, row: prefix not in keep and row not in read)
        if found is None:
            return None
        row = self.nodes.rows.pop(found)
        self._loose.append(row)
        return row

    def _has_blocks(
        self, device: int, texts: list[Row], needed: Collection[Prefix], planned: Collection[Prefix]
    ) -> bool:
        """Whether there are blocks for prefixes on a device, for whose sake others go."""
        length = [len(t.prompt) + len(t.begun) for t in texts if t.row < 0 or self.nodes.on(t.row) == device]
        page = self.rollout.decoding.page
        blocks = sum((n - 1) // page for n in length) if page else 0
        return self._keep_room({device}, needed, planned, blocks)

    def _keep_room(
        self, devices: Collection[int], needed: Collection[Prefix], planned: Collection[Prefix] = (), blocks: int = 0
    ) -> bool:
        """Lets prefixes go until the devices have so many blocks beside those of one response of the greatest length;
        whether they then do. Those that are needed go last, those that are `planned` to begin now do not.

        Without blocks for that one response, continuations that decode could begin again and again: for their sake even
        needed prefixes go, and for further blocks only where nothing decodes that will leave some.
        """
        count, keep = 1, needed
        while short := [d for d in devices if self.rollout.room(self.state)[d] < blocks]:
            gone = [self._evicted(device, keep) for device in short for _ in range(count)]
            if all(row is None for row in gone) and not self._loose:
                if keep is planned or (self._running and blocks):
                    return False
                keep = planned
            self.state = self.rollout.release(self.ready, self.state, self._loose)
            count, self._loose = 2 * count, []
        return True

    def _collect(self) -> None:
        """Takes the continuations that have ended."""
        seen = self.state.read
        assert seen.held is not None
        ended = [row for row in self._running if seen.length[row]]
        drawn, self._drawn = self._drawn, int(seen.occupancy.drawn)
        self.redrawn += (self._drawn - drawn) % (1 << 32)
        tokens, logprobs = self.rollout.some_rows(self.state, ended)
        for row, ids, p in zip(ended, tokens, logprobs, strict=True):
            job, length = self._running.pop(row), int(seen.length[row])
            problem, prefix = job.prefix
            found = sampled(seen, row, ids[len(prefix) : length], p[len(prefix) : length], self.sizes.new_tokens)
            self._answers[job.of][job.place] = found
            self._missing[job.of] -= 1
            self.costs[problem] += Cost(asked=len(found.tokens), generated=len(found.tokens))
            self.redrawn -= len(found.tokens)
            after = problem, (*prefix, *found.tokens)
            if found.end is End.STEP:
                self.known.prefixes.add(after)
            if not seen.held[row]:
                continue
            if after in self.nodes.rows:
                self._loose.append(row)
            else:
                self.nodes.rows[after] = row

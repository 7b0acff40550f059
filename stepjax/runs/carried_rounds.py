"""Partial rollouts: a round ends when enough responses have, and those that have not go on in the next one.

More problems are sampled at once than a round trains on. As soon as all responses to as many problems as a round has
are whole, the rollout stops: nothing waits for the longest responses. The others go on in the next round behind the
tokens that they have, whose keys and values are computed anew with the new policy; each token keeps the log-probability
under the policy that drew it, which the importance weights read [Kimi k1.5 2501.12599; AReaL 2505.24298].
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from stepjax.config import PPOOptions
from stepjax.learners.optimizers import State
from stepjax.models.definition import Params
from stepjax.parallel import batch_devices, batch_sharding, fetch, put, replicated
from stepjax.phases import phase
from stepjax.programs import Program, abstract
from stepjax.rollout.pausable import PausableRollout, Pause
from stepjax.rollout.program import RolloutShape
from stepjax.rollout.record import Occupancy
from stepjax.rollout.requests import request
from stepjax.runs.carried import Group, GroupArrays, Part
from stepjax.runs.prompt_order import PromptOrder
from stepjax.runs.response_sampling import make_sampler
from stepjax.runs.setup import Run
from stepjax.tasks.base import Problem
from stepjax.tasks.encoding import Prompts
from stepjax.trajectory import Trajectory

CARRIED = "carried"
"""The name of the responses that go on in a checkpoint."""

SPARE = 2
"""One problem more is sampled for so many of a round."""

TURNS = 16
"""Turns in which the longest response is drawn, at least; and a turn has `MOST_STEPS` steps at most."""

MOST_STEPS = 64


@dataclasses.dataclass(frozen=True)
class CarriedRound:
    """The responses of a round.

    Attributes:
      rows: those to a problem together.
      problems: of each row.
      occupancy: the use of the slots.
      figures: for the metrics.
    """

    rows: Trajectory
    problems: list[Problem]
    occupancy: Occupancy
    figures: dict[str, float]


def spare_groups(options: PPOOptions, devices: int) -> int:
    """Problems that are sampled beside a round's own, so that all responses divide over the devices."""
    least = -(-options.prompts // SPARE)
    return next(n for n in range(least, options.prompts + devices) if n * options.samples % devices == 0)


def carried_shape(options: PPOOptions, shape: RolloutShape, devices: int) -> RolloutShape:
    """The sizes of a round's rollout that goes on with responses; `shape`: in one go."""
    rows = (options.prompts + spare_groups(options, devices)) * options.samples
    return dataclasses.replace(shape, rows=rows, resumed=True)


class CarriedRounds:
    """Rounds whose unfinished responses go on in the next one.

    Attributes:
      carried: the groups that go on: as many after every round, those that no token was drawn of yet among them.
      arrays: how they are kept in a checkpoint.
    """

    def __init__(self, run: Run, shape: RolloutShape):
        """`shape`: of a round's rollout in one go."""
        options, devices = run.config.ppo, batch_devices(run.mesh)
        self.run, self.options = run, options
        self.spare = spare_groups(options, devices)
        self.size = options.prompts + self.spare
        self.carried: list[Group] = []
        self._resize(shape)
        self.arrays = GroupArrays(self.spare, options.samples, options.max_new_tokens, self.rollout.programs.form)
        self._choose = choose_program(run.mesh, self.rollout.programs.rows.outputs(), options.prompts * options.samples)

    def _resize(self, shape: RolloutShape) -> None:
        run, options = self.run, self.options
        self._asked, self.shape = shape, carried_shape(options, shape, batch_devices(run.mesh))
        self.rollout = PausableRollout(
            run.policy,
            run.mesh,
            self.shape,
            eos=run.framing.ends,
            sampler=make_sampler(options),
            gather=run.config.mesh.gather_to_decode,
            record=options.replay,
        )

    def __call__(
        self,
        policy: Params,
        order: PromptOrder,
        key: jax.Array,
        number: int,
        shape: RolloutShape,
    ) -> CarriedRound:
        """Round `number`, from 1 on. `shape`: as at first, with another number of slots perhaps."""
        prompts, problem_of = order.prompts, order.problem
        if shape != self._asked:
            self._resize(shape)
        nothing = (Part.nothing(self.arrays.form),) * self.options.samples
        last = number * self.options.prompts + self.spare
        fresh = range(last - self.size + len(self.carried), last)
        groups = self.carried + [Group(n, problem_of(n), nothing) for n in fresh]
        # A run that is continued with fewer iterations may know fewer problems.
        known = len(prompts.tokens)
        groups = [g if g.problem < known else Group(g.number, problem_of(g.number), nothing) for g in groups]
        groups, restarted, (tokens, length, queue, record) = self._given(groups, prompts)
        ready = self.rollout.prepare(policy)
        state = self.rollout.start(ready, tokens, length, key, queue, record)
        steps = min(MOST_STEPS, max(self.options.max_new_tokens // TURNS, 1))
        phase(f"decoding until {self.options.prompts} of {self.size} problems have all of their responses")
        while len(self._whole(groups, state, number)) < self.options.prompts:
            state = self.rollout.turn(ready, state, steps)
        return self._taken(groups, state, prompts, number, restarted)

    def _places(self) -> np.ndarray:
        """int[groups, samples], the row of each response: groups are dealt out to the devices."""
        dealt = [np.arange(self.size)[device :: self.rollout.devices] for device in range(self.rollout.devices)]
        order = np.concatenate(dealt)
        rows = np.zeros((self.size, self.options.samples), int)
        rows[order] = np.arange(rows.size).reshape(rows.shape)
        return rows

    def _given(self, groups: list[Group], prompts: Prompts) -> tuple[list[Group], int, tuple[Any, ...]]:
        """Inputs of the rollout; where the cache does not hold what all responses begin with, the shortest ones begin
        anew, which the groups then say, and the tokens that were lost so."""
        restarted = 0
        while True:
            given = self._inputs(groups, prompts)
            if self.rollout.fits(given[1]):
                return groups, restarted, given
            shortest = min(
                (len(part.tokens), i, j)
                for i, group in enumerate(groups)
                for j, part in enumerate(group.parts)
                if len(part.tokens) and not part.ended
            )
            count, i, j = shortest
            parts = list(groups[i].parts)
            parts[j] = Part.nothing(self.arrays.form)
            groups = [*groups[:i], dataclasses.replace(groups[i], parts=tuple(parts)), *groups[i + 1 :]]
            restarted += count

    def _inputs(self, groups: Sequence[Group], prompts: Prompts) -> tuple[Any, ...]:
        """Tokens, lengths, queue and record, on the host."""
        options, rows = self.options, self.rollout.shape.rows
        texts: list[list[int]] = [prompts.tokens[group.problem] for group in groups]
        chosen, ids, limits, start = (np.zeros(rows, np.int32) for _ in range(4))
        record: Any = self.rollout.no_record()
        for i, (group, places) in enumerate(zip(groups, self._places().tolist(), strict=True)):
            for sample, (row, part) in enumerate(zip(places, group.parts, strict=True)):
                count = len(part.tokens)
                chosen[row] = i
                ids[row] = (group.number + options.prompts) * options.samples + sample
                limits[row] = 0 if part.ended else options.max_new_tokens
                record.tokens[row, :count], record.logprobs[row, :count] = part.tokens, part.logprobs
                if record.kept is not None:
                    record.kept[row, :count] = part.kept
                if part.ended:
                    record.length[row], record.finished[row] = count, part.finished
                elif count:
                    texts.append([*texts[i], *part.tokens.tolist()])
                    chosen[row], start[row] = len(texts) - 1, count
        shape, devices = self.rollout.shape, self.rollout.devices
        return *request(texts, chosen, ids, limits, shape, devices, starts=start), record

    def _whole(self, groups: Sequence[Group], state: Pause, number: int) -> list[int]:
        """The groups whose responses are all whole, the oldest first; none while one that may not grow older is not."""
        ended = (state.read.length > 0)[self._places()].all(axis=1)
        due = [group.age(number) >= self.options.carry for group in groups]
        if any(d and not e for d, e in zip(due, ended, strict=True)):
            return []
        return sorted(np.flatnonzero(ended).tolist(), key=lambda i: (not due[i], groups[i].number))

    def _taken(self, groups: list[Group], state: Pause, prompts: Prompts, number: int, restarted: int) -> CarriedRound:
        """The round, and what goes on."""
        places, samples = self._places(), self.options.samples
        taken = self._whole(groups, state, number)[: self.options.prompts]
        rest = [i for i in range(self.size) if i not in set(taken)]
        chosen, others = (
            put(places[of].reshape(-1).astype(np.int32), replicated(self.run.mesh)) for of in (taken, rest)
        )
        rows, left = self._choose(self.rollout.rows(state), chosen, others)
        found: Trajectory = fetch(left)
        whole = (state.read.length > 0)[places]
        self.carried = [
            dataclasses.replace(
                groups[i],
                parts=tuple(
                    _longer(part, found, k * samples + j, bool(whole[i, j]), number)
                    for j, part in enumerate(groups[i].parts)
                ),
            )
            for k, i in enumerate(rest)
        ]
        before = [part.drawn for i in taken for part in groups[i].parts]
        ages = number - np.concatenate(before)
        tokens = max(int(state.read.length[places[taken]].sum()), 1)
        problems = [prompts.problems[groups[i].problem] for i in taken for _ in range(samples)]
        figures = {
            "carry/tokens": len(ages) / tokens,
            "carry/age": float(ages.sum()) / tokens,
            "carry/oldest": float(ages.max(initial=0)),
            "carry/responses": float(sum(len(p.tokens) > 0 for group in self.carried for p in group.parts)),
            "carry/restarted": float(restarted),
        }
        return CarriedRound(rows, problems, state.seen.occupancy, figures)


def _longer(part: Part, found: Trajectory, row: int, ended: bool, number: int) -> Part:
    """The response with what round `number` drew of it."""
    count, first = int(found.response_length[row]), found.prompt_width
    span = slice(first, first + count)
    more = np.full(count - len(part.drawn), number, np.int32)
    return Part(
        tokens=np.asarray(found.tokens[row, span]),
        logprobs=np.asarray(found.logprobs[row, span]),
        drawn=np.concatenate([part.drawn, more]),
        ended=ended,
        finished=bool(found.finished[row]),
        kept=None if found.kept is None else np.asarray(found.kept.record[row, span]),
    )


def abstract_saved(state: State, carried: CarriedRounds | None) -> State:
    """What a checkpoint holds: what is trained, and the responses that go on."""
    return state if carried is None else {**state, CARRIED: carried.arrays.abstract(carried.run.mesh)}


def saved(state: State, carried: CarriedRounds | None) -> State:
    """The state with the responses that go on in the next round."""
    if carried is None:
        return state
    return {**state, CARRIED: put(carried.arrays.of(carried.carried), replicated(carried.run.mesh))}


def opened(state: State, carried: CarriedRounds | None) -> State:
    """The state without them; the next round goes on with them."""
    if carried is None:
        return state
    carried.carried = carried.arrays.groups_of(fetch(state[CARRIED]))
    return {name: x for name, x in state.items() if name != CARRIED}


def choose_program(mesh: Mesh, rows: Trajectory, count: int) -> Program:
    """`(rows, chosen int32[count], others) -> (rows, rows)`: the chosen rows; the others, whole on every device."""

    def choose(rows: Trajectory, chosen: jax.Array, others: jax.Array) -> tuple[Trajectory, Trajectory]:
        return tuple(jax.tree.map(lambda x, of=of: jnp.take(x, of, axis=0), rows) for of in (chosen, others))  # type: ignore[return-value]

    by_row, whole = batch_sharding(mesh), replicated(mesh)
    total = rows.tokens.shape[0]
    places = (jax.ShapeDtypeStruct((n,), jnp.int32, sharding=whole) for n in (count, total - count))
    return Program("choose", choose, mesh=mesh, inputs=(abstract(rows, by_row), *places), out_shardings=(by_row, whole))

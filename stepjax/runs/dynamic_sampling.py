"""Dynamic sampling [DAPO 2503.14476]: problems that teach nothing leave a round, and others are sampled for them.

Where all responses to a problem are right, or none is, their outcomes have no variance, and a baseline of the group
leaves no advantage. Further rollouts of the same compiled size are drawn until a round of the usual size is full of
problems that some responses solve and others do not, so that nothing is compiled anew and every update has as many
rows; how many rollouts is bounded.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int

from stepjax.console.progress import say
from stepjax.host_rows import HostRows
from stepjax.parallel import batch_sharding, put, replicated
from stepjax.programs import Program, abstract
from stepjax.runs.ppo_sampling import Context, RoundSampler, Waves
from stepjax.runs.responses import Response, share_responses
from stepjax.tasks.base import Problem
from stepjax.trajectory import Trajectory

Draw = tuple[Waves, list[Problem]]
"""A rollout that was started, and the problem of each of its rows."""


@dataclass(frozen=True)
class Filled:
    """A round after its further rollouts.

    Attributes:
      rows, problems: of the round.
      own: this process's responses.
      waves: of all of its rollouts.
      figures: what they cost and brought, for the metrics.
    """

    rows: Trajectory
    problems: list[Problem]
    own: list[Response]
    waves: Waves
    figures: dict[str, float]


class DynamicSampling:
    """Fills a round with informative problems.

    Args:
      samples: responses to a problem, in consecutive rows.
      most: further rollouts of a round at most.
    """

    def __init__(self, sampler: RoundSampler, hosts: HostRows, mesh: Mesh, *, samples: int, most: int):
        self.sampler, self.hosts, self.mesh, self.samples, self.most = sampler, hosts, mesh, samples, most
        self.replace = replace_program(mesh, sampler.outputs)
        self._told = False

    def __call__(
        self, first: Draw, further: Callable[[], Draw], waiting: Context, rating: Context, where: str
    ) -> Filled:
        """`first`: the round's own rollout; `further()` starts another one with fresh problems. `where`: the round.

        At the bound the problems that are left over stay: they add nothing to a group's advantages, and are said once.
        """
        waves, problems = first
        rows = self.sampler.whole(waves)
        responses = self._read(first, waiting, rating)
        accuracy = float(np.mean([r.correct for r in responses]))
        missing = np.flatnonzero(~self._informative(responses)).tolist()
        problems, rollouts, unused, seen = list(problems), 1, 0, len(responses) // self.samples
        while missing and rollouts <= self.most:
            more = further()
            found = self._read(more, waiting, rating)
            fresh = np.flatnonzero(self._informative(found)).tolist()
            source = np.arange(len(responses), dtype=np.int32)
            for place, group in zip(missing, fresh, strict=False):
                into, taken = self._rows_of(place), self._rows_of(group)
                source[into] = len(responses) + np.arange(taken.start, taken.stop)
                responses[into], problems[into] = found[taken], more[1][taken]
            rows = self.replace(rows, self.sampler.whole(more[0]), put(source, replicated(self.mesh)))
            unused += max(len(fresh) - len(missing), 0)
            missing, waves = missing[len(fresh) :], waves + more[0]
            rollouts, seen = rollouts + 1, seen + len(found) // self.samples
        groups = len(responses) // self.samples
        if missing and not self._told:
            self._told = True
            say(
                f"{where}: after {rollouts} rollouts {groups - len(missing)} of {groups} problems are informative; the "
                "others stay (refill/informative in metrics.jsonl; config.ppo.refill allows more rollouts)"
            )
        figures = {
            "refill/rollouts": float(rollouts),
            "refill/informative": 1 - len(missing) / groups,
            "refill/uninformative": 1 - (groups - len(missing) + unused) / seen,
            "refill/unused": unused / seen,
            "refill/accuracy": accuracy,
        }
        return Filled(rows, problems, [responses[row] for row in self.hosts.mine.tolist()], waves, figures)

    def _read(self, draw: Draw, waiting: Context, rating: Context) -> list[Response]:
        """The responses of all rows, rated; every process has all of them, so that all decide alike."""
        waves, problems = draw
        return share_responses(self.hosts, problems, self.sampler.read(problems, waves, waiting, rating))

    def _informative(self, responses: Sequence[Response]) -> np.ndarray:
        """bool[problems]: some of the responses are right, others are not."""
        right = np.array([r.correct for r in responses]).reshape(-1, self.samples)
        solved = right.sum(axis=1)
        return (solved > 0) & (solved < self.samples)

    def _rows_of(self, group: int) -> slice:
        return slice(group * self.samples, (group + 1) * self.samples)


def replace_program(mesh: Mesh, rows: Trajectory) -> Program:
    """`(rows, more, source int32[B]) -> rows`: row i is row source[i] of the rows with `more` behind them."""

    def replace(rows: Trajectory, more: Trajectory, source: Int[Array, " B"]) -> Trajectory:
        return jax.tree.map(lambda x, y: jnp.concatenate([x, y])[source], rows, more)

    by_row = batch_sharding(mesh)
    source = jax.ShapeDtypeStruct((rows.tokens.shape[0],), jnp.int32, sharding=replicated(mesh))
    inputs = (abstract(rows, by_row), abstract(rows, by_row), source)
    return Program("refill", replace, mesh=mesh, inputs=inputs, out_shardings=by_row)

"""A rollout in one call, for loops of one's own: prompts as lists of token ids in, a `Trajectory` out."""

import functools
from collections.abc import Sequence
from typing import Any, cast

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PRNGKeyArray

from stepjax.models import Definition, LanguageModel
from stepjax.models.definition import Params
from stepjax.parallel import batch_devices, batch_sharding, make_mesh, put, replicated
from stepjax.programs import Program
from stepjax.rollout.environment import HostTool
from stepjax.rollout.program import RolloutShape, rollout_program
from stepjax.rollout.requests import request
from stepjax.rollout.sampling import Sampler
from stepjax.rollout.stops import Stops
from stepjax.trajectory import Trajectory

PLAIN = Sampler()


def generate(
    policy: Definition[LanguageModel],
    params: Params,
    prompts: Sequence[Sequence[int]],
    key: PRNGKeyArray,
    *,
    new_tokens: int,
    eos: int | tuple[int, ...],
    sampler: Sampler = PLAIN,
    samples: int = 1,
    width: int = 0,
    slots: int = 0,
    ids: Sequence[int] | None = None,
    tool: HostTool | None = None,
    stops: Stops | None = None,
    mesh: Mesh | None = None,
) -> Trajectory:
    """Samples `samples` responses to each prompt; those to one prompt lie next to each other.

    Compiled once for each size: a call with as many prompts of at most `width` tokens, and the same other arguments,
    reuses the program. A row's tokens depend on `key`, its id and its prompt alone, not on the batch or the mesh.

    Args:
      policy: the model, of whose `params` (`[name, …]` nested) this is a sample.
      prompts: token ids of each prompt, at least one each.
      key: a random key; another one in each round, or the same with other `ids`.
      new_tokens: tokens of the longest response, its end included.
      eos: the id, or the ids, that end a response.
      sampler: temperature and filters.
      width: P, tokens that a prompt may have; 0: as many as the widest of these.
      slots: responses that decode at once; 0: all. Where lengths differ much, fewer than all waste less.
      ids: of each response, the number that names its random key; None: 0, 1, 2 …
      tool: an environment that writes into the responses; its tokens are `env_tokens`.
      stops: what else ends a response.
      mesh: devices; None: the first one. The number of responses must be divisible by those along the batch.

    Returns:
      A trajectory of B = prompts × samples rows on the mesh: tokens int32[B, P + new_tokens], logprobs float32 (those
      of the sampling distribution), lengths, `finished`.

    Raises:
      ValueError: a prompt is empty or wider than `width`, or the rows cannot be divided among the devices.
    """
    widths = [len(prompt) for prompt in prompts]
    if not widths or not min(widths) or (width and max(widths) > width):
        raise ValueError(f"prompts: each must have 1 to {width or 'any number of'} tokens, not {widths[:8]}")
    mesh = make_mesh(1, 1, 1, devices=jax.devices()[:1]) if mesh is None else mesh
    shape = RolloutShape(len(prompts) * samples, width or max(widths), new_tokens, samples=samples, slots=slots)
    ends = (eos,) if isinstance(eos, int) else tuple(eos)
    program = _program(policy, mesh, shape, ends, sampler, tool, cast(Any, stops))
    rows = np.repeat(np.arange(len(prompts)), samples)
    numbers = np.arange(shape.rows) if ids is None else np.asarray(ids)
    inputs = request(prompts, rows, numbers, None, shape, batch_devices(mesh))
    tokens, lengths, queue = put(inputs, batch_sharding(mesh))
    placed = jax.device_put(params, policy.shardings(mesh))  # arrays that lie there already are not copied
    trajectory, _ = program(placed, tokens, lengths, jax.device_put(key, replicated(mesh)), queue)
    return trajectory


@functools.lru_cache(maxsize=16)
def _program(
    policy: Definition[LanguageModel],
    mesh: Mesh,
    shape: RolloutShape,
    eos: tuple[int, ...],
    sampler: Sampler,
    tool: Any,
    stops: Any,
) -> Program:
    return rollout_program(policy, mesh, shape, eos=eos, sampler=sampler, tool=tool, stops=stops)

"""What the decode loop carries from one step, and from one turn, to the next."""

import dataclasses
from typing import NamedTuple

import jax
from jaxtyping import Array

from stepjax.rollout.blocks import Layers
from stepjax.rollout.environment import Replies
from stepjax.rollout.holding import Aside
from stepjax.rollout.record import Log, Occupancy, Record
from stepjax.rollout.slots import Prompts, Slots


class Steps(NamedTuple):
    """What a step changes.

    Attributes:
      t: int32[], steps so far.
      log: of this turn.
      reply: the environment's replies that are not written yet; None without an environment.
      aside: rows that ended and shall be held; None: none can be.
    """

    t: Array
    slots: Slots
    log: Log
    reply: Replies | None
    occupancy: Occupancy
    aside: Aside | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Progress:
    """What a turn changes.

    Attributes:
      t: int32[], steps so far.
      layers: the blocks; None: there are none.
      reply, aside: as in `Steps`; nothing is aside between two turns.
      prompts: those that rows begin with, where rows that are held change them; None: those of the loop.
    """

    t: Array
    slots: Slots
    layers: Layers | None
    record: Record
    reply: Replies | None
    occupancy: Occupancy
    aside: Aside | None = None
    prompts: Prompts | None = None

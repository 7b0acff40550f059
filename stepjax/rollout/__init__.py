"""Sampling of responses: prompts in, a `Trajectory` with tokens and their log-probabilities out.

`generate` does it in one call. A loop that wants to choose sizes once and call often builds the program itself:
`rollout_program` for a `RolloutShape`, whose input `request` lays out. `PausableRollout` is the same in turns, between
which the host reads what ended and adds `Row`s, or `Branch`es behind rows that are held.
"""

from stepjax.rollout.adding import Branch, Row
from stepjax.rollout.call import generate
from stepjax.rollout.environment import HostTool
from stepjax.rollout.pausable import PausableRollout
from stepjax.rollout.program import RolloutShape, rollout_program
from stepjax.rollout.requests import request
from stepjax.rollout.sampling import Sampler
from stepjax.rollout.slots import Hold, Queue
from stepjax.rollout.stops import StopStrings

__all__ = [
    "Branch",
    "Hold",
    "HostTool",
    "PausableRollout",
    "Queue",
    "RolloutShape",
    "Row",
    "Sampler",
    "StopStrings",
    "generate",
    "request",
    "rollout_program",
]

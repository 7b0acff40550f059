"""The credit program of training, as studies of exact worlds call it: on one device, for some of its results."""

from collections.abc import Callable
from typing import Any

import jax

from stepjax.config import PPOOptions
from stepjax.learners.ppo import credited, make_streams
from stepjax.trajectory import Trajectory


def crediting(options: PPOOptions, *names: str) -> Callable[[Trajectory, Any], Any]:
    """A compiled `(rows, host signals) -> fields`: those of the credited rows with these names, a single one alone."""

    def credit(rows: Trajectory, host: Any) -> Any:
        found = credited(options, make_streams(options.streams), rows, host)[0]
        fields = tuple(getattr(found, name) for name in names)
        return fields if len(fields) > 1 else fields[0]

    return jax.jit(credit)

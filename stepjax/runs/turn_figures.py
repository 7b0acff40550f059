"""Figures of responses that an environment answered over turns."""

from collections.abc import Sequence

from stepjax.runs.responses import Response
from stepjax.tasks.turns import CAUSES


def turn_figures(responses: Sequence[Response]) -> dict[str, float]:
    """Shares of the responses by what ended them, their mean number of answered turns and their mean reward, by the
    names in metrics.jsonl; {} where there is no environment over turns."""
    taken = [r.turns for r in responses if r.turns is not None]
    if not taken:
        return {}
    found = {f"environment/{cause}": sum(t.cause == cause for t in taken) / len(taken) for cause in CAUSES}
    found["environment/answered"] = sum(len(t.rewards) for t in taken) / len(taken)
    found["environment/reward"] = sum(sum(t.rewards) for t in taken) / len(taken)
    return found

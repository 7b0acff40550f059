"""What the processes of `test_pausable.py` do, each of them alike: rollouts in turns, with rows added on the way."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from stepjax.config import DistributedOptions
from stepjax.distributed.start import find_place, join

TEXTS = 12


def added() -> dict[str, np.ndarray]:
    """Rows that are added between turns, as places are free."""
    from rollout import test_pausable

    rows, _ = test_pausable.added(3, mesh=(2, 2, 2), slots=16, block=2, cache_tokens=38)
    found = {name: np.asarray(getattr(rows, name)) for name in (*test_pausable.FIELDS, "logprobs")}
    return found


def drawn_again() -> dict[str, np.ndarray]:
    """Turns with so few blocks that rows are put back and draw their tokens again."""
    from rollout import test_pausable

    rows, _, used = test_pausable.in_turns(3, mesh=(2, 2, 2), slots=16, block=2, cache_tokens=22)
    found = {name: np.asarray(getattr(rows, name)) for name in (*test_pausable.FIELDS, "logprobs")}
    return found | {"restarted": np.asarray(used.restarted)}


def branches(mesh: tuple[int, int, int] = (4, 1, 2), slots: int = 8) -> dict[str, np.ndarray]:
    """Responses step by step, each step a row that goes on behind the one that is held."""
    from rollout import live

    made, ready = live.live(mesh=mesh, slots=slots, block=2)
    texts = [live.TEXTS[i % len(live.TEXTS)] for i in range(TEXTS)]
    lines, pieces, _ = live.step_by_step(made, ready, texts, [100 + i for i in range(TEXTS)], steps=3)
    tokens, logprobs = (np.concatenate([np.asarray(line[i]) for line in lines]) for i in (0, 1))
    lengths = np.asarray([len(line[0]) for line in lines])
    return {"tokens": tokens, "logprobs": logprobs, "lengths": lengths, "pieces": np.asarray(pieces)}


TASKS: dict[str, Callable[[], dict[str, np.ndarray]]] = {
    "added": added,
    "drawn again": drawn_again,
    "branches": branches,
}


def main(folder: Path) -> None:
    import jax

    options: Any = DistributedOptions()
    place = find_place(options)
    assert place is not None
    join(place, options)
    assert jax.process_count() == 2 and jax.local_device_count() == 4
    for name, task in TASKS.items():
        np.savez(folder / f"{name}-{jax.process_index()}.npz", allow_pickle=False, **task())
    jax.distributed.shutdown()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main(Path(sys.argv[1]))

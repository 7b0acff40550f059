"""How responses find their way, by the verifier alone: recovery, false repairs, tries, dead ends left."""

from collections.abc import Iterable, Sequence

from stepjax.tasks.countdown.reader import CountdownReader


def measure_walks(responses: Iterable[tuple[CountdownReader, Sequence[str]]]) -> dict[str, float]:
    """Figures of (reader, steps) pairs, a response each; a share of nothing is left out.

    recovery: share of the moves with a false value, or resting on one, that were taken back before the answer.
    false_repairs: share of the right moves with the target in reach after them that were taken back all the same.
    tries: moves that were taken back, a response.
    dead_ends_left: share of the right moves with the target out of reach after them that were taken back.
    """
    made = {"false": 0, "right": 0, "dead": 0}
    undone = dict(made)
    count = 0
    for reader, steps in responses:
        count += 1
        kinds: list[str] = []  # of the moves on the path
        for step in steps:
            rated = reader.read(step)
            gone, kinds = kinds[len(reader.path) :], kinds[: len(reader.path)]
            for kind in gone:
                undone[kind] += 1
            if len(kinds) < len(reader.path):
                last = reader.path[-1]
                kinds.append("right" if last.right else "dead" if rated.kind == "dead end" else "false")
                made[kinds[-1]] += 1
    shares = {"recovery": "false", "false_repairs": "right", "dead_ends_left": "dead"}
    figures = {"tries": sum(undone.values()) / max(count, 1)}
    return figures | {name: undone[kind] / made[kind] for name, kind in shares.items() if made[kind]}

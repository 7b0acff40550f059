"""Examples of many lengths packed into rows of one length: deterministic, shuffled, resumable (Grain)."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import grain
import numpy as np

from stepjax.errors import UserError

PROMPT = -2
"""The target of a prompt's tokens where steps are labelled: neither a class nor written by the policy."""

MOST_UNUSED = 10_000
_NOTHING = "no training examples: the problems have no solutions to learn from"


@dataclass(frozen=True)
class Example:
    """A prompt and a response in tokens; `targets[t]` is the target of position t, −1 for none (`PROMPT`: of a prompt).

    `values[t]`, where given, is the soft label that goes with a target.
    """

    tokens: np.ndarray  # int32[n]
    targets: np.ndarray  # int32[n]
    values: np.ndarray | None = None  # float32[n]


class PackedBatches:
    """Endless batches of packed rows, `int32[rows, width]` each: tokens, targets, positions, segments (0: padding).

    The order depends only on the seed. `state()` is a JSON-able position; `restore(state)` continues exactly there.

    A pass over the examples is a new random order of all of them. Of several shards, each takes every n-th example of
    that order: together they take each once a pass.
    """

    def __init__(
        self,
        encode: Callable[[int], Example | None],
        examples: int,
        *,
        rows: int,
        width: int,
        seed: int,
        values: bool = False,
        shard: tuple[int, int] = (0, 1),
    ):
        """`encode(i)` gives example i of `examples`, None where it has no targets.

        With `values`, examples have soft labels and batches a float32[rows, width] of them. `shard` is which of how
        many shards of the data this one reads (a process and the number of processes, say); `rows` are its own.
        """
        if examples == 0:
            raise UserError(_NOTHING)
        self._too_long: set[int] = set()
        self._unused_in_a_row = 0
        self._examples = examples

        def item(i: int) -> dict[str, np.ndarray] | None:
            example = encode(i)
            if example is not None and len(example.tokens) <= width:
                self._unused_in_a_row = 0
                found = {"tokens": example.tokens, "targets": example.targets + 1}  # + 1: packing pads with 0
                if values:
                    assert example.values is not None
                    found["values"] = example.values
                return found
            if example is not None:
                self._too_long.add(int(i))
            self._unused_in_a_row += 1
            # This many in a row are a whole pass, or so much of one that the rest is no different.
            if self._unused_in_a_row > min(2 * self._examples, MOST_UNUSED):
                raise UserError(
                    f"every example is longer than row_tokens={width}: raise it" if self._too_long else _NOTHING
                )
            return None

        self._names = ("tokens", "targets", *(("values",) if values else ()))
        # Sharded after the shuffle, within a pass: `repeat` then shuffles each pass anew over all examples.
        order = grain.MapDataset.range(examples).seed(seed).shuffle()
        if shard[1] > 1:
            order = order.slice(slice(shard[0], None, shard[1]))
        order = order.repeat()
        chosen = order.map(item).filter(lambda x: x is not None)
        read = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4 * rows)
        packed = grain.experimental.FirstFitPackIterDataset(
            chosen.to_iter_dataset(read),
            length_struct=dict.fromkeys(self._names, width),
            num_packing_bins=rows,
            shuffle_bins=False,
        )
        self._iterator = iter(packed.batch(rows, drop_remainder=True))

    @property
    def left_out(self) -> int:
        """Number of the examples so far that are longer than a row and were not used."""
        return len(self._too_long)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        batch = next(self._iterator)
        values = {"values": np.asarray(batch["values"], np.float32)} if "values" in self._names else {}
        return values | {
            "tokens": np.asarray(batch["tokens"], np.int32),
            "targets": np.asarray(batch["targets"], np.int32) - 1,
            "positions": np.asarray(batch["tokens_positions"], np.int32),
            "segments": np.asarray(batch["tokens_segment_ids"], np.int32),
        }

    def state(self) -> Any:
        return json.loads(json.dumps(self._iterator.get_state(), default=_plain))

    def restore(self, state: Any) -> None:
        self._iterator.set_state(state)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} in a data position")


def pack_all(
    examples: Iterable[Example], *, rows: int, width: int, most: int | None = None
) -> list[dict[str, np.ndarray]]:
    """All examples once, in order, in batches of `rows` rows; the last batch is filled with empty rows.

    `most`: the rows that are filled at most; what comes after them is left out. None: any number.
    """
    batches: list[dict[str, np.ndarray]] = []
    row, at, segment, filled = rows, width, 0, 0
    for example in examples:
        n = len(example.tokens)
        if n > width:
            continue
        if at + n > width:
            if filled == most:
                break
            row, at, segment, filled = row + 1, 0, 0, filled + 1
        if row >= rows:
            names = ("tokens", "targets", "positions", "segments")
            batches.append({k: np.full((rows, width), -1 if k == "targets" else 0, np.int32) for k in names})
            if example.values is not None:
                batches[-1]["values"] = np.zeros((rows, width), np.float32)
            row = 0
        batch, here, segment = batches[-1], slice(at, at + n), segment + 1
        batch["tokens"][row, here] = example.tokens
        batch["targets"][row, here] = example.targets
        batch["positions"][row, here] = np.arange(n)
        batch["segments"][row, here] = segment
        if example.values is not None:
            batch["values"][row, here] = example.values
        at += n
    return batches

"""Shards of packed data: together all examples once a pass, each resumable; soft labels stay with their targets."""

import json

import numpy as np

from stepjax.data.packing import Example, PackedBatches, pack_all

COUNT = 40


def example(i: int) -> Example:
    length = 3 + i % 4
    labels = np.full(length, -1, np.int32)
    labels[-1] = i % 3
    return Example(np.full(length, i + 1, np.int32), labels, np.where(labels >= 0, i / COUNT, 0).astype(np.float32))


def read(shard, *, rows=2):
    return PackedBatches(example, COUNT, rows=rows, width=16, seed=3, values=True, shard=shard)


def first_pass(shard):
    """The examples in the order in which one shard takes them, for one pass."""
    taken = []

    def encode(i):
        taken.append(int(i))
        return example(i)

    batches = PackedBatches(encode, COUNT, rows=1, width=16, seed=3, values=True, shard=shard)
    while len(taken) < 3 * COUNT:
        next(batches)
    return taken


def test_shards_take_each_example_once_a_pass():
    share = COUNT // 4
    parts = [first_pass((i, 4)) for i in range(4)]
    for k in range(3):
        passes = [part[k * share : (k + 1) * share] for part in parts]
        assert sorted(i for part in passes for i in part) == list(range(COUNT))
    assert parts[0][:share] != parts[0][share : 2 * share], "a pass is a new order"
    whole = first_pass((0, 1))
    assert [part[0] for part in parts] == whole[:4]


def test_a_shard_is_deterministic_and_goes_on_where_it_was():
    for shard in ((0, 1), (1, 3)):
        one, two = read(shard), read(shard)
        for _ in range(3):
            a, b = next(one), next(two)
            assert all((a[k] == b[k]).all() for k in a)
        state = json.loads(json.dumps(one.state()))
        rest = [next(one) for _ in range(4)]
        again = read(shard)
        again.restore(state)
        for batch in rest:
            other = next(again)
            assert all((batch[k] == other[k]).all() for k in batch)


def test_values_stand_where_their_targets_do():
    for batch in [next(read((0, 1))), *pack_all([example(i) for i in range(COUNT)], rows=2, width=16)]:
        assert batch["values"].dtype == np.float32
        at = batch["targets"] >= 0
        owner = batch["tokens"] - 1
        assert np.allclose(batch["values"][at], owner[at] / COUNT) and (batch["values"][~at] == 0).all()
        assert (batch["targets"][at] == owner[at] % 3).all()

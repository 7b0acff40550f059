"""Packed rows: nothing lost, nothing doubled, the same again after a restart."""

import itertools
from collections import Counter

import numpy as np
import pytest

from stepjax.data.packing import Example, PackedBatches, pack_all
from stepjax.errors import UserError

EXAMPLES, ROWS, WIDTH = 23, 4, 16


def example(i: int) -> Example:
    """Example i: 1 to 11 tokens that name it; every third position learns something (0 among it), others are marked."""
    n = 1 + (i * 7) % 11
    tokens = np.arange(n, dtype=np.int32) + 100 * i
    return Example(tokens, np.choose(np.arange(n) % 3, [tokens // 100, -1, -2]).astype(np.int32))


def batches(count: int, seed: int = 0, encode=example, width: int = WIDTH) -> list[dict[str, np.ndarray]]:
    return list(itertools.islice(PackedBatches(encode, EXAMPLES, rows=ROWS, width=width, seed=seed), count))


def unpacked(batch: dict[str, np.ndarray]) -> list[int]:
    """The examples in a batch, after checking that each stands there whole and that the rest is padding."""
    found = []
    for row in range(len(batch["tokens"])):
        tokens, targets, positions, segments = (batch[k][row] for k in ("tokens", "targets", "positions", "segments"))
        used = int((segments > 0).sum())
        assert (segments[:used] > 0).all() and (targets[used:] == -1).all() and not tokens[used:].any()
        assert np.unique(segments[:used]).tolist() == list(range(1, segments.max(initial=0) + 1))
        for segment in range(1, segments.max(initial=0) + 1):
            at = np.flatnonzero(segments == segment)
            i = int(tokens[at[0]]) // 100
            np.testing.assert_array_equal(at, at[0] + np.arange(len(at)))
            np.testing.assert_array_equal(tokens[at], example(i).tokens)
            np.testing.assert_array_equal(targets[at], example(i).targets)
            np.testing.assert_array_equal(positions[at], np.arange(len(at)))
            found.append(i)
    return found


def same(a: list[dict[str, np.ndarray]], b: list[dict[str, np.ndarray]]) -> bool:
    return len(a) == len(b) and all((x[k] == y[k]).all() for x, y in zip(a, b, strict=True) for k in x)


def test_rows_hold_whole_examples():
    for batch in batches(6):
        assert all(x.shape == (ROWS, WIDTH) and x.dtype == np.int32 for x in batch.values())
        assert unpacked(batch)


def test_each_pass_has_every_example_once():
    """An example may wait in an open row while the next pass begins, but no longer than the rows of one batch."""
    seen: Counter[int] = Counter()
    for number, batch in enumerate(batches(40)):
        seen.update(unpacked(batch))
        if number >= 4:
            assert max(seen.values()) - min(seen[i] for i in range(EXAMPLES)) <= 2, number
    assert len(seen) == EXAMPLES and min(seen.values()) >= 8


def test_the_order_is_the_seeds():
    assert same(batches(5), batches(5))
    assert not same(batches(5), batches(5, seed=1))
    assert not same(batches(1), batches(20)[-1:])


@pytest.mark.parametrize("stop", [0, 1, 7])
def test_a_restored_position_goes_on_exactly(stop):
    whole = batches(stop + 6)
    first = PackedBatches(example, EXAMPLES, rows=ROWS, width=WIDTH, seed=0)
    assert same(list(itertools.islice(first, stop)), whole[:stop])
    state = first.state()
    next(first)  # what is read after the position was taken does not move it
    again = PackedBatches(example, EXAMPLES, rows=ROWS, width=WIDTH, seed=0)
    again.restore(state)
    assert same(list(itertools.islice(again, 6)), whole[stop:])


def test_a_position_is_json():
    import json

    data = PackedBatches(example, EXAMPLES, rows=ROWS, width=WIDTH, seed=0)
    next(data)
    state = data.state()
    assert json.loads(json.dumps(state)) == state


def test_examples_that_do_not_fit_are_left_out_and_counted():
    data = PackedBatches(example, EXAMPLES, rows=ROWS, width=5, seed=0)
    long = {i for i in range(EXAMPLES) if len(example(i).tokens) > 5}
    found = {i for batch in itertools.islice(data, 20) for i in unpacked(batch)}
    assert found == set(range(EXAMPLES)) - long
    assert data.left_out == len(long) > 0, "each is counted once, however often it came by"


def test_examples_with_nothing_to_learn_are_passed_over():
    data = PackedBatches(lambda i: example(i) if i % 2 else None, EXAMPLES, rows=ROWS, width=WIDTH, seed=0)
    assert {i for batch in itertools.islice(data, 20) for i in unpacked(batch)} == set(range(1, EXAMPLES, 2))
    assert data.left_out == 0


def test_data_that_can_never_fill_a_row_is_a_user_error():
    with pytest.raises(UserError, match="every example is longer than row_tokens=0: raise it"):
        batches(1, width=0)
    with pytest.raises(UserError, match="no training examples: the problems have no solutions"):
        batches(1, encode=lambda i: None)
    with pytest.raises(UserError, match="no training examples"):
        PackedBatches(example, 0, rows=ROWS, width=WIDTH, seed=0)


def test_one_short_example_among_long_ones_is_enough():
    def encode(i: int) -> Example:
        return example(0 if i == 3 else 9)

    assert set(unpacked(batches(2, encode=encode, width=3)[1])) == {0}


def test_pack_all_holds_each_example_once_and_in_order():
    found = pack_all([example(i) for i in range(EXAMPLES)], rows=ROWS, width=WIDTH)
    assert [i for batch in found for i in unpacked(batch)] == list(range(EXAMPLES))
    assert all(x.shape == (ROWS, WIDTH) and x.dtype == np.int32 for batch in found for x in batch.values())
    assert not found[-1]["segments"][-1].any(), "the last batch is filled with empty rows"


def test_pack_all_leaves_out_what_does_not_fit():
    assert pack_all([], rows=ROWS, width=WIDTH) == []
    assert pack_all([example(9)], rows=ROWS, width=3) == []
    (batch,) = pack_all([example(9), example(0), example(9)], rows=ROWS, width=9)
    assert unpacked(batch) == [9, 0, 9] and len(example(9).tokens) == 9


def test_pack_all_fills_so_many_rows_and_no_more():
    examples = [example(i) for i in range(EXAMPLES)]
    whole = np.concatenate([batch["tokens"] for batch in pack_all(examples, rows=1, width=WIDTH)])
    for most in (0, 1, ROWS, ROWS + 1, len(whole), len(whole) + 1):
        found = [batch["tokens"] for batch in pack_all(iter(examples), rows=ROWS, width=WIDTH, most=most)]
        some = min(most, len(whole))
        assert len(found) == -(-some // ROWS)
        filled = np.concatenate(found) if found else np.zeros((0, WIDTH), np.int32)
        np.testing.assert_array_equal(filled[:some], whole[:some])
        assert not filled[some:].any()

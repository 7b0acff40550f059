"""What a trajectory derives from its lengths: the docstring's worked example, and empty and full responses."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stepjax.trajectory import Trajectory


@pytest.fixture(scope="module")
def rows() -> Trajectory:
    return Trajectory(
        tokens=jnp.zeros((3, 8), jnp.int32),
        prompt_length=jnp.array([3, 4, 1]),
        response_length=jnp.array([2, 4, 0]),
        finished=jnp.array([True, False, False]),
        logprobs=jnp.zeros((3, 8)),
        prompt_width=4,
    )


def test_the_worked_example(rows):
    assert rows.segments[0].tolist() == [0, 1, 1, 1, 1, 1, 0, 0]
    assert rows.mask[0].tolist() == [False, False, False, False, True, True, False, False]
    assert rows.positions[0].tolist() == [0, 0, 1, 2, 3, 4, 5, 6]
    assert int(rows.last[0]) == 5


def test_a_row_without_padding(rows):
    assert rows.segments[1].tolist() == [1] * 8
    assert rows.mask[1].tolist() == [False] * 4 + [True] * 4
    assert rows.positions[1].tolist() == list(range(8))
    assert int(rows.last[1]) == 7


def test_an_empty_response_ends_with_its_prompt(rows):
    assert rows.segments[2].tolist() == [0, 0, 0, 1, 0, 0, 0, 0]
    assert not rows.mask[2].any()
    assert rows.positions[2].tolist() == [0, 0, 0, 0, 1, 2, 3, 4]
    assert int(rows.last[2]) == 3


def test_a_turn_ends_where_the_environment_writes(rows):
    assert rows.turn_end is None
    #                               prompt        response
    written = jnp.array([[False] * 8, [False] * 5 + [True, True, False], [True] * 8])
    turns = dataclasses.replace(rows, env_tokens=written)
    assert turns.turn_end.tolist() == [[False] * 8, [False] * 4 + [True] + [False] * 3, [False] * 8]
    after = dataclasses.replace(rows, env_tokens=jnp.array([[False] * 6 + [True] * 2] * 3))
    assert np.flatnonzero(after.turn_end[0]).tolist() == []  # what lies behind a response is no turn
    assert np.flatnonzero(after.turn_end[1]).tolist() == [5]


def test_dtypes(rows):
    assert rows.mask.dtype == bool
    assert {rows.segments.dtype, rows.positions.dtype, rows.last.dtype, rows.columns.dtype} == {np.dtype("int32")}


def test_it_goes_through_jit_with_its_width_static_and_absent_columns_absent(rows):
    out = jax.jit(lambda r: jax.tree.map(lambda x: x[::-1], r))(rows)
    assert out.prompt_width == 4 and out.values is None and out.steps is None
    assert out.response_length.tolist() == [0, 4, 2]
    assert len(jax.tree.leaves(rows)) == 5

"""Packing: every token once, in few rows; packed passes and updates are those of padded rows."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learners.padded import token_values
from learners.ppo_case import MESHES, OPTIONS, B, T, credit_of, mesh, scored
from learners.test_update import update
from models.tiny import policy, policy_params, reader, reader_params, scorer, scorer_params

from stepjax.learners.objectives import critic_objective, objective_columns, policy_objective
from stepjax.learners.own_loops import token_logprobs
from stepjax.learners.packing import (
    PackedRows,
    PackingShape,
    first_fit,
    micro_batch,
    of_next_tokens,
    over_micro_batches,
    pack,
    unpacked,
)
from stepjax.learners.ppo import make_streams
from stepjax.learners.score import score_program
from stepjax.parallel import batch_sharding, fetch, put
from stepjax.steps import StepSplitter
from stepjax.trajectory import Trajectory

quick = settings(max_examples=60, deadline=None, derandomize=True)
fit = jax.jit(first_fit, static_argnums=1)


@quick
@given(st.lists(st.integers(0, 20), min_size=12, max_size=12))
def test_first_fit_places_every_length_once_and_wastes_little(lengths):
    bin, begin = (np.asarray(x) for x in fit(jnp.array(lengths), 20))
    taken = np.zeros((12, 20), int)
    for length, b, at in zip(lengths, bin, begin, strict=True):
        assert at + length <= 20
        taken[b, at : at + length] += 1
    assert taken.max(initial=0) <= 1 and taken.sum() == sum(lengths)
    bins = 1 + max((b for b, n in zip(bin, lengths, strict=True) if n), default=-1)
    fewest = -(-sum(lengths) // 20)
    # The bound is on the best packing, which may need more rows than the tokens alone.
    assert bins <= max(11 / 9 * fewest + 6 / 9, sum(n > 10 for n in lengths), 2 * fewest)
    assert all(taken[b].any() for b in range(bins))


@pytest.mark.parametrize("row_tokens, micro_tokens, rows", [(0, 0, 1), (0, 3 * T, 3), (2 * T, 0, 1), (3 * T, 6 * T, 2)])
def test_sizes_of_a_packing(row_tokens, micro_tokens, rows):
    shape = PackingShape.of(B, T, row_tokens=row_tokens, micro_tokens=micro_tokens, devices=1)
    assert (shape.width, shape.rows) == (max(row_tokens, T), rows)
    assert shape.turns(B) == -(-B // rows)
    assert PackingShape.of(B, T, row_tokens=0, micro_tokens=0, devices=8).rows == 8


@pytest.mark.parametrize("width, each", [(T, 1), (T, 3), (2 * T + 3, 2)])
def test_every_token_is_packed_once_and_found_again(width, each):
    rows = scored()
    shape = PackingShape(width, each)

    @jax.jit
    def go(rows):
        packing = pack(rows, jnp.arange(B), shape)
        marks = jnp.arange(B * T).reshape(B, T)
        batches = [micro_batch(rows, packing, jnp.int32(i), {"mark": marks}) for i in range(shape.turns(B))]
        read = jnp.stack([b.tokens for b in batches])
        together = jnp.stack([b.columns["mark"] for b in batches])
        back = of_next_tokens(unpacked(together, packing, rows))
        return packing, batches, unpacked(read, packing, rows), back

    packing, batches, read, back = fetch(go(rows))
    inside = np.asarray(rows.segments) > 0
    np.testing.assert_array_equal(read, np.where(inside, rows.tokens, 0))
    predicted = inside & (np.asarray(rows.positions) > 0)
    np.testing.assert_array_equal(back[predicted], np.arange(B * T).reshape(B, T)[predicted])
    assert sum((b.segments > 0).sum() for b in batches) == inside.sum()
    assert sum(b.mask.sum() for b in batches) == np.asarray(rows.mask).sum()
    held = [i for i, b in enumerate(batches) if b.segments.any()]
    assert held == list(range(packing.count))
    for b in batches:
        for r in range(each):
            for segment in set(b.segments[r].tolist()) - {0}:
                at = np.flatnonzero(b.segments[r] == segment)
                assert (np.diff(at) == 1).all()
                np.testing.assert_array_equal(b.positions[r, at], np.arange(len(at)))
                row = b.columns["mark"][r, at[0]] // T
                tokens = np.asarray(rows.tokens)[row][inside[row]]
                np.testing.assert_array_equal(b.tokens[r, at], tokens)
                np.testing.assert_array_equal(b.targets[r, at], [*tokens[1:], 0])
                np.testing.assert_array_equal(b.mask[r, at], [*np.asarray(rows.mask)[row][inside[row]][1:], False])


@functools.cache
def score(row_tokens: int, micro_tokens: int, shape=(1, 1, 1), with_reader=False):
    on = mesh(shape)
    given = dataclasses.replace(unscored(), steps=None)
    splitter = StepSplitter.of_bytes([b"\n" if i % 5 == 0 else b"x" for i in range(40)], "\n")
    prm, prm_params = (reader(), reader_params()) if with_reader else (scorer(), scorer_params())
    program = score_program(
        policy(), scorer(), prm, splitter, on, given, temperature=OPTIONS.temperature, row_tokens=row_tokens,
        micro_tokens=micro_tokens,
    )  # fmt: skip
    placed = [
        jax.device_put(params, definition.shardings(on))
        for definition, params in (
            (policy(), policy_params()),
            (policy(), jax.tree.map(lambda x: 0.9 * x, policy_params())),
            (scorer(), scorer_params()),
            (prm, prm_params),
        )
    ]
    return program, fetch(program(*placed, put(given, batch_sharding(on))))


def unscored() -> Trajectory:
    rows = scored()
    kept = ("tokens", "prompt_length", "response_length", "finished", "logprobs", "prompt_width")
    rows = Trajectory(**{name: getattr(rows, name) for name in kept})
    return dataclasses.replace(rows, response_length=np.where(np.arange(B) == 2, 0, rows.response_length))


@pytest.mark.parametrize("sizes", [(0, 0), (0, 4 * T), (2 * T + 1, 0), (5 * T, 5 * T)])
@pytest.mark.parametrize("shape", MESHES)
def test_packed_scores_are_those_of_padded_rows(sizes, shape):
    if shape != MESHES[0] and sizes not in ((0, 0), (5 * T, 5 * T)):
        pytest.skip("the sizes are varied on one device")
    _, found = score(*sizes, shape)
    rows = unscored()

    @jax.jit
    def padded(rows):
        own = token_logprobs(policy(), policy_params(), rows, temperature=OPTIONS.temperature)
        other = jax.tree.map(lambda x: 0.9 * x, policy_params())
        prm = jax.nn.softmax(scorer().bind(scorer_params())(rows.tokens, rows.positions, rows.segments))
        return (
            *own,
            token_logprobs(policy(), other, rows, temperature=OPTIONS.temperature)[0],
            prm,
            *token_values(scorer().bind(scorer_params()), rows),
        )

    wanted = fetch(padded(rows))
    prm = np.where(found.steps.end[..., None], wanted[3], 0)
    for name, theirs in zip(
        ("old_logprobs", "entropy", "ref_logprobs", "prm", "values", "bootstrap"),
        (*wanted[:3], prm, *wanted[4:]),
        strict=True,
    ):
        np.testing.assert_allclose(getattr(found, name), theirs, atol=2e-5, err_msg=name)
    assert not found.old_logprobs[2].any() and np.isfinite(found.bootstrap).all()
    assert found.steps.end.sum() > B


def test_a_reader_reads_packed_rows_as_padded_ones():
    _, found = score(0, 3 * T, with_reader=True)
    rows = unscored()
    wanted = jax.nn.softmax(
        jax.jit(lambda r: reader().bind(reader_params())(r.tokens, r.positions, r.segments))(rows), axis=-1
    )
    np.testing.assert_allclose(found.prm, np.where(found.steps.end[..., None], wanted, 0), atol=2e-5)


@pytest.mark.parametrize(
    "reduce, sizes",
    [
        ("token", [(0, 1), (3 * T + 2, 0)]),
        pytest.param("token", [(0, 1), (0, 4 * T)], marks=pytest.mark.slow),
        pytest.param("step", [(0, 1), (3 * T + 2, 0)], marks=pytest.mark.slow),
        pytest.param("sequence", [(0, 1), (3 * T + 2, 0)], marks=pytest.mark.slow),
    ],
)
def test_an_update_does_not_depend_on_how_it_is_packed(reduce, sizes):
    options = dataclasses.replace(OPTIONS, epochs=1, reduce=reduce, mean_ratio_guard=100.0)
    rows = credit_of(False)[1]
    found = [
        update(dataclasses.replace(options, row_tokens=row_tokens, micro_tokens=micro_tokens), rows)
        for row_tokens, micro_tokens in sizes
    ]
    for other in found[1:]:
        for a, b in zip(jax.tree.leaves(other[0]), jax.tree.leaves(found[0][0]), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
        for name, x in found[0][1].items():
            np.testing.assert_allclose(other[1][name], x, rtol=1e-4, atol=1e-5, err_msg=name)


def test_responses_without_tokens_give_no_gradient_and_no_nan():
    rows = dataclasses.replace(credit_of(False)[1], response_length=np.zeros(B, np.int32))
    options = dataclasses.replace(OPTIONS, epochs=1)
    state, metrics = update(options, rows)
    for definition_params, role in ((policy_params(), "policy"), (scorer_params(), "critic")):
        for a, b in zip(jax.tree.leaves(state[role]["params"]), jax.tree.leaves(definition_params), strict=True):
            np.testing.assert_array_equal(a, b)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(metrics))


def test_micro_batches_turn_as_often_as_there_are_tokens_and_nothing_is_compiled_anew():
    """One program, one executable: the loop's bound is data."""
    program, _ = score(0, 0)
    text = program.compile().as_text()
    assert "while(" in text and program.turns == B
    short = jax.jit(lambda r: pack(r, jnp.arange(B), PackingShape(T, 1)).count)
    rows = unscored()
    few = dataclasses.replace(rows, response_length=np.minimum(rows.response_length, 1))
    assert 0 < short(few) < short(rows) <= B


@pytest.mark.parametrize("shape", MESHES[1:])
def test_only_small_columns_cross_the_mesh(shape):
    """No hidden state, logits or scores are gathered: numbers a token of the whole batch, and layers' weights."""
    program, _ = score(0, 0, shape)
    gathered = re.findall(r"= \w+\[([\d,]*)\]\S* all-gather", program.compile().as_text())
    assert gathered
    for dims in ([int(n) for n in found.split(",") if n] for found in gathered):
        weights = shape[1] > 1 and 32 in dims and T not in dims  # 32: the model's width
        assert weights or int(np.prod(dims)) <= 4 * B * T, dims


@pytest.mark.parametrize("width, each", [(T, 3), (3 * T + 2, 1)])
def test_packed_gradients_are_those_of_padded_rows(width, each):
    """Policy and critic, summed over micro-batches, against one pass over rows with all of their padding."""
    rows, shape = credit_of(False)[1], PackingShape(width, each)
    streams = make_streams(OPTIONS.streams)

    def both(params, batch):
        own = policy_objective(OPTIONS, policy(), params["policy"], batch, coefficient=0.3)[0]
        return own + critic_objective(OPTIONS, streams, scorer(), params["critic"], batch)[0]

    @jax.jit
    def gradients(params, rows):
        columns = objective_columns(OPTIONS, streams, rows, jnp.arange(B))
        packing = pack(rows, jnp.arange(B), shape)
        padded = PackedRows.padded(rows, columns)

        def add(i, total):
            found = jax.grad(both)(params, micro_batch(rows, packing, i, columns))
            return jax.tree.map(jnp.add, total, found)

        packed = over_micro_batches(packing, add, jax.tree.map(jnp.zeros_like, params))
        return packed, jax.grad(both)(params, padded)

    packed, padded = fetch(gradients({"policy": policy_params(), "critic": scorer_params()}, rows))
    for a, b in zip(jax.tree.leaves(packed), jax.tree.leaves(padded), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5, rtol=0)
    for role in packed:
        assert max(np.abs(x).max() for x in jax.tree.leaves(packed[role])) > 1e-3

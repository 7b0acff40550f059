"""Passes of training over rows that are cut (mesh axis `context`): the figures of one device, and what crosses it."""

import dataclasses

import jax
import numpy as np
import pytest
from learners.ppo_case import CUT, OPTIONS, WITHOUT_CRITIC, B, T, assert_close, credit_of
from learners.test_implicit import update as implicit_update
from learners.test_packing import score
from learners.test_update import update

from stepjax.learners.packing import PackingShape

SIZES = (3 * T, 6 * T)
ONCE = dataclasses.replace(OPTIONS, epochs=1, row_tokens=SIZES[0], micro_tokens=SIZES[1])
WRITTEN = ("steps", "old_logprobs", "entropy", "ref_logprobs", "values", "bootstrap", "prm")


@pytest.mark.parametrize("parts, width, rows", [(1, 3 * T, 2), (2, 3 * T, 4), (8, 48, 12)])
def test_a_device_has_micro_tokens_of_its_parts(parts, width, rows):
    shape = PackingShape.of(64, T, row_tokens=3 * T, micro_tokens=6 * T, devices=1, parts=parts)
    assert (shape.width, shape.rows, shape.parts) == (width, rows, parts)
    assert shape.width % (2 * parts) == 0 or parts == 1


@pytest.mark.parametrize("mesh", CUT)
@pytest.mark.parametrize("sizes, reader", [(SIZES, False), pytest.param((0, 0), True, marks=pytest.mark.slow)])
def test_scores(mesh, sizes, reader):
    wanted, found = score(*sizes, with_reader=reader)[1], score(*sizes, mesh, with_reader=reader)[1]
    for name in WRITTEN:
        assert_close(getattr(found, name), getattr(wanted, name))


@pytest.mark.parametrize("mesh", CUT)
def test_an_update_of_policy_and_critic(mesh):
    rows = credit_of(False)[1]
    assert_close(update(ONCE, rows, mesh), update(ONCE, rows))


@pytest.mark.slow
@pytest.mark.parametrize("mesh", CUT)
@pytest.mark.parametrize("ratio", ["turn", "sequence"])
def test_ratios_of_many_tokens_reach_over_parts(ratio, mesh):
    options = dataclasses.replace(WITHOUT_CRITIC, epochs=1, ratio=ratio, row_tokens=SIZES[0])
    rows = credit_of(True)[1]
    assert_close(update(options, rows, mesh), update(options, rows))


@pytest.mark.slow
@pytest.mark.parametrize("mesh", CUT)
def test_the_implicit_reward_model(mesh):
    assert_close(implicit_update(mesh), implicit_update())

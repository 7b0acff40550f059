"""Passes of training over rows that are cut (mesh axis `context`): the figures of one device, and what crosses it."""

import dataclasses
import re
from collections import Counter

import numpy as np
import pytest
from learners.ppo_case import CONFIG, CUT, OPTIONS, WITHOUT_CRITIC, B, T, assert_close, credit_of
from learners.test_implicit import update as implicit_update
from learners.test_packing import score
from learners.test_update import programs, update

from stepjax.learners.packing import PackingShape

SIZES = (3 * T, 6 * T)
ONCE = dataclasses.replace(OPTIONS, epochs=1, row_tokens=SIZES[0], micro_tokens=SIZES[1])
WRITTEN = ("steps", "old_logprobs", "entropy", "ref_logprobs", "values", "bootstrap", "prm")


@pytest.mark.parametrize("parts, width, rows", [(1, 3 * T, 2), (2, 3 * T, 4), (8, 48, 12)])
def test_a_device_has_micro_tokens_of_its_parts(parts, width, rows):
    shape = PackingShape.of(64, T, row_tokens=3 * T, micro_tokens=6 * T, devices=1, parts=parts)
    assert (shape.width, shape.rows, shape.parts) == (width, rows, parts)
    assert shape.width % (2 * parts) == 0 or parts == 1


@pytest.mark.parametrize(
    "mesh, sizes, reader",
    [
        (CUT[1], SIZES, False),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((CUT[0], SIZES, False), (CUT[1], (0, 0), True))),
    ],
)
def test_scores(mesh, sizes, reader):
    wanted, found = score(*sizes, with_reader=reader)[1], score(*sizes, mesh, with_reader=reader)[1]
    for name in WRITTEN:
        assert_close(getattr(found, name), getattr(wanted, name))


@pytest.mark.slow
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


def crossings(text: str) -> list[tuple[str, list[list[int]], str, str]]:
    """Of each collective of a compiled program: its kind, the shapes that it makes, its devices, where it is from."""
    kinds = "all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute|collective-broadcast|ragged-all-to-all"
    found = []
    for match in re.finditer(rf"= (.*?) ({kinds})(?:-start)?\(.*", text):
        shapes = [[int(n) for n in dims.split(",") if n] for dims in re.findall(r"\w+\[([\d,]*)\]", match[1])]
        groups, name = (re.search(p, match[0]) for p in (r"replica_groups=(\S+)", r'op_name="([^"]*)"'))
        found.append((match[2], shapes, groups[1] if groups else "", name[1] if name else ""))
    return found


@pytest.mark.slow
def test_keys_and_values_are_all_that_crosses_the_mesh_besides_weights_and_numbers_a_token():
    """Gathered over pairs of devices in the forward pass, their gradients summed and scattered in the backward one."""
    mesh, parts, width = (1, 4, 1, 2), 2, 3 * T
    update(ONCE, credit_of(False)[1], mesh)
    text = programs[repr((ONCE, mesh))].compile().as_text()
    pairs = "{{0,1},{2,3},{4,5},{6,7}}"
    whole, part = [1, CONFIG.kv_heads, width, CONFIG.head_dim], [1, CONFIG.kv_heads, width // parts, CONFIG.head_dim]
    keys = Counter()
    for kind, shapes, groups, name in crossings(text):
        if "shard_map" in name:
            assert (kind, *shapes) in (("all-gather", whole), ("reduce-scatter", part)), (kind, shapes, name)
            assert groups.startswith(pairs)
            keys[kind] += 1
            continue
        for shape in shapes:
            of_weights = width not in shape and width // parts not in shape and T not in shape
            numbers = np.prod(shape) <= 2 * B * T
            # A device looks up its columns of the embedding for all tokens, and gets all columns of its own.
            embedding = kind == "all-to-all" and ("gather" in name or "scatter" in name)
            assert of_weights or numbers or embedding, (kind, shapes, name)
    # Keys and values in the policy and the critic; their layers are a loop.
    assert keys == {"all-gather": 4, "reduce-scatter": 4}

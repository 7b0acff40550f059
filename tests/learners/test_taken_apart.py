"""Layers that are taken apart before a loop over micro-batches: the same numbers, no layer is cut out inside of it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learners.ppo_case import B, T, scored
from models.tiny import CONFIG, policy, policy_params, reader, reader_params

from stepjax.learners.objectives import summed_gradients
from stepjax.learners.packing import PackingShape, micro_batch, pack
from stepjax.learners.score import response_logprobs
from stepjax.models import Definition, LanguageModel, StepReader
from stepjax.models.definition import stacked
from stepjax.plan.hlo_text import parse


def unrolled(**changes):
    config = dataclasses.replace(CONFIG, unroll=CONFIG.layers, decode_apart=True, **changes)
    return Definition(lambda rngs: LanguageModel(config, rngs))


def equal(a, b, tolerance=1e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance), a, b)


def test_it_is_undone_by_stacking():
    apart = unrolled().taken_apart(policy_params())
    assert all(isinstance(w, tuple) and len(w) == CONFIG.layers for w in apart["trunk"]["layers"].values())
    jax.tree.map(np.testing.assert_array_equal, stacked(apart), policy_params())
    some = {"trunk": {"layers": {"query": policy_params()["trunk"]["layers"]["query"]}}}
    assert list(unrolled().taken_apart(some)["trunk"]["layers"]) == ["query"], "adapters are a part of the parameters"


@pytest.mark.parametrize("changes", [{"decode_apart": False}, {"unroll": 1}])
def test_where_it_gains_nothing_it_is_not_done(changes):
    config = dataclasses.replace(CONFIG, **{"unroll": CONFIG.layers, "decode_apart": True} | changes)
    definition = Definition(lambda rngs: LanguageModel(config, rngs))
    assert definition.taken_apart(policy_params()) == policy_params()


def test_the_layers_of_a_language_model_within_a_reader_are_taken_apart_and_its_one_reading_layer_is_not():
    config = dataclasses.replace(CONFIG, unroll=CONFIG.layers, decode_apart=True)
    apart = Definition(lambda rngs: StepReader(config, 1, 3, rngs))
    params = apart.taken_apart(reader_params())
    assert isinstance(params["language"]["trunk"]["layers"]["up"], tuple)
    assert not isinstance(params["layers"]["up"], tuple)
    rows = scored()
    given = rows.tokens, np.asarray(rows.positions), np.asarray(rows.segments)
    read = [jax.jit(lambda p, *x, d=d: d.bind(d.taken_apart(p))(*x)) for d in (apart, reader())]
    equal(*(program(reader_params(), *given) for program in read))


@functools.cache
def gradients(definition, apart):
    rows = scored()
    shape = PackingShape(T, 2)

    def objective(params, batch):
        logprobs, _ = response_logprobs(definition.bind(params), batch, temperature=1.0)
        return -jnp.sum(logprobs), {}

    def run(params, rows):
        packing = pack(rows, jnp.arange(B), shape)
        given = definition.taken_apart(params) if apart else params
        return summed_gradients(
            {"policy": objective}, {"policy": given}, packing, lambda i: micro_batch(rows, packing, i, {})
        )

    program = jax.jit(run).lower(policy_params(), rows).compile()
    return program(policy_params(), rows)[0], program.as_text()


@pytest.mark.parametrize("remat", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_gradients_are_those_of_the_stack(remat):
    found, text = gradients(unrolled(remat=remat), True)
    equal(found["policy"], gradients(policy(), False)[0]["policy"])
    assert jax.tree.map(jnp.shape, found["policy"]) == jax.tree.map(jnp.shape, policy_params())
    assert not cut_in_loops(text)
    assert cut_in_loops(gradients(unrolled(remat=remat), False)[1]), "what this test looks for is there otherwise"


def cut_in_loops(text):
    """Instructions in bodies of loops that read the stack of a projection's weights."""
    module = parse(text)
    bodies = {
        name
        for c in module.computations.values()
        for i in c.instructions.values()
        if i.opcode == "while"
        for name in i.called("body")
    }
    stack = (CONFIG.layers, CONFIG.width, CONFIG.mlp)
    passed_on = ("tuple", "get-tuple-element", "while")
    found = []
    for name in bodies:
        inside = module.computations[name].instructions
        for i in inside.values():
            read = [a.dims for o in i.operands if o in inside for a in inside[o].arrays[:1]]
            found += [i.name] if stack in read and i.opcode not in passed_on else []
    return found

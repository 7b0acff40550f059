"""Each published rule of configs/rules: the figures of its source, and a random group against loops over tokens."""

import ast
import dataclasses
import functools
import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from credit.algebra_loop import credit
from credit.rule_cases import CASES, Case

from stepjax.credit.step_sizes import step_sizes
from stepjax.credit.streams import combine
from stepjax.credit.whiten import whiten
from stepjax.learners.ppo import make_streams
from stepjax.learners.train_on import parse_train_on
from stepjax.options import from_dict
from stepjax.parallel import make_mesh
from stepjax.rewards.shaping_chain import shape_rewards
from stepjax.runs.check import check_options

FOLDER = Path(__file__).parents[2] / "configs" / "rules"
RULES = sorted(file.stem for file in FOLDER.glob("*.py"))
B = G = 4  # one group
T = 9


@functools.cache
def options(rule):
    return from_dict(runpy.run_path(str(FOLDER / f"{rule}.py"))["get_config"]()).ppo


def streams_of(number, case):
    """The streams of a case, with names of their own; unwhitened, since the figures are."""
    named = {}
    for name, stream in options(case.rule).streams.items():
        stream = dataclasses.replace(stream, whiten=False, **case.changes.get(name, {}))
        links = {link: f"{number}/{getattr(stream, link)}" for link in ("times", "join") if getattr(stream, link)}
        named[f"{number}/{name}"] = dataclasses.replace(stream, **links)
    return make_streams(named)


ALL = [stream for number, case in enumerate(CASES) for stream in streams_of(number, case)]
NAMES = [stream.name for stream in ALL]


@jax.jit
def compiled(batch):
    """All rules at once: compiled once."""
    return combine(ALL, **batch, group=G).advantages


def batch_of(number: int, case: Case):
    """The case as arrays; streams of other cases earn nothing."""
    n = len(ALL)
    batch = {name: np.zeros((n, B, T), np.float32) for name in ("rewards", "values")}
    batch |= {name: np.zeros((n, B), np.float32) for name in ("bootstrap", "first", "outcome")}
    batch |= {name: np.zeros((B, T), bool) for name in ("mask", "step_end", "turn_end")}
    batch |= {"scored": np.zeros((n, B, T), bool), "logprobs": np.zeros((B, T), np.float32)}
    batch |= {"state": np.zeros((B, T), np.int32)}
    there = np.arange(B) < len(case.responses)
    batch |= {"correct": np.array(case.correct), "finished": np.array(case.finished) & there}
    tokens = []
    for b, response in enumerate(case.responses):
        t = 0
        for mark in response:
            if mark in "|/":
                batch["step_end"][b, t - 1] = True
                batch["turn_end"][b, t - 1] = mark == "/"
                continue
            batch["mask"][b, t] = mark == "t"
            t += 1
        tokens.append(np.flatnonzero(batch["mask"][b]))
        batch["step_end"][b, tokens[-1][-1]] = True
    for name, stream in options(case.rule).streams.items():
        i = NAMES.index(f"{number}/{name}")
        changed = dataclasses.replace(stream, **case.changes.get(name, {}))
        for b, at in enumerate(tokens):
            given = case.rewards[name][b]
            batch["rewards"][i, b, at] = [x or 0.0 for x in given]
            batch["scored"][i, b, at] = [x is not None for x in given]
            if case.values:
                batch["values"][i, b, at] = case.values[b]
        sizes = step_sizes(jnp.asarray(batch["mask"]), jnp.asarray(batch["step_end"]))
        shaped = shape_rewards(jnp.asarray(batch["rewards"][i]), batch["scored"][i], stream.shaping, sizes=sizes)
        batch["rewards"][i] = shaped
        batch["first"][i] = changed.first
        batch["outcome"][i] = np.where(case.correct, changed.good, changed.bad)
        if case.bootstrap:
            batch["bootstrap"][i, : len(case.bootstrap)] = case.bootstrap
    for b, at in enumerate(tokens):
        if case.probabilities:
            batch["logprobs"][b, at] = np.log(case.probabilities[b])
        if case.states:
            batch["state"][b, at] = case.states[b]
    return batch, tokens


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case.rule for case in CASES])
def test_the_figures_of_its_source(number):
    case = CASES[number]
    batch, tokens = batch_of(number, case)
    found = np.asarray(compiled(batch))
    own = streams_of(number, case)
    weight = sum(stream.weight * found[NAMES.index(stream.name)] for stream in own)
    below, _ = parse_train_on(options(case.rule).train_on)
    weight = np.where(batch["logprobs"] <= np.log(below), weight, 0.0)
    if case.whitened:
        assert options(case.rule).whiten
        weight = np.asarray(whiten(jnp.asarray(weight), jnp.asarray(batch["mask"])))
    for b, at in enumerate(tokens):
        np.testing.assert_allclose(weight[b, at], case.expected[b], rtol=1e-6, atol=1e-6, err_msg=str(b))


@functools.cache
def random_group():
    """A group of four responses with random rewards, masks and ends, and its credit by loops."""
    rng, n = np.random.default_rng(5), len(ALL)
    batch = {name: np.round(rng.normal(size=(n, B, T)) * 4) / 4 for name in ("rewards", "values")}
    batch |= {name: np.round(rng.normal(size=(n, B)) * 4) / 4 for name in ("bootstrap", "first", "outcome")}
    batch["first"][:] = 0.0
    batch = {name: x.astype(np.float32) for name, x in batch.items()}
    batch |= {name: rng.random((B, T)) < p for name, p in (("mask", 0.8), ("step_end", 0.4), ("turn_end", 0.2))}
    batch |= {"scored": rng.random((n, B, T)) < 0.7, "finished": np.array([True, True, True, False])}
    batch |= {"correct": np.array([True, False, True, True]), "state": rng.integers(0, 3, (B, T)).astype(np.int32)}
    batch |= {"logprobs": np.log(rng.choice([0.1, 0.5, 0.95], (B, T))).astype(np.float32)}
    return batch, credit(batch, ALL, G)


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case.rule for case in CASES])
def test_a_random_group_equals_loops_over_tokens(number):
    batch, expected = random_group()
    found = np.asarray(compiled(batch))
    for stream in streams_of(number, CASES[number]):
        i = NAMES.index(stream.name)
        if stream.estimator != "progress" or stream.prompt_value == "others":
            np.testing.assert_allclose(found[i], expected[i], rtol=1e-6, atol=1e-6, err_msg=stream.name)
        assert found[i].any() or stream.join, "an example of which nothing is seen"


def test_every_rule_has_a_case():
    assert {case.rule for case in CASES} == set(RULES)


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_ten_lines_says_where_it_comes_from_and_can_be_run(rule):
    text = (FOLDER / f"{rule}.py").read_text(encoding="utf-8")
    docstring, *rest = ast.parse(text).body
    code = [line for line in text.splitlines()[docstring.end_lineno :] if line.strip()]
    assert len(code) <= 10
    said = ast.get_docstring(ast.parse(text))
    assert "\n\nDiffers: " in said and ("=" in said or "≤" in said or "←" in said) and rest
    check_options(from_dict(runpy.run_path(str(FOLDER / f"{rule}.py"))["get_config"]()), make_mesh(8))

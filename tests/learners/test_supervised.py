"""Supervised updates: the loss by hand, packed against unpacked rows, one device against eight."""

import functools

import jax
import numpy as np
import optax
import pytest
from models.tiny import CONFIG, policy, policy_params, reader, reader_params, scorer, scorer_params

from stepjax.data.packing import PROMPT, Example, pack_all
from stepjax.learners.optimizers import abstract_state, init_state
from stepjax.learners.supervised import prm_sums, put_batch, reader_sums, sft_sums, train_program, valid_program
from stepjax.parallel import fetch, make_mesh

ROWS, WIDTH = 8, 16
LM_LOSS = 0.5
ROLES = {
    "sft": (policy, policy_params, sft_sums),
    "prm": (scorer, scorer_params, prm_sums),
    "reader": (reader, reader_params, functools.partial(reader_sums, lm_loss=LM_LOSS)),
}
ALONE = (1, 1, 1)
CUT = [(2, 2, 1, 2), (1, 1, 1, 8)]
"""Meshes that cut rows into parts."""
SHARDED = [
    *[(stage, mesh) for stage in ("sft", "prm") for mesh in ((8, 1, 1), (1, 4, 2))],
    ("reader", (1, 4, 2)),
    ("sft", CUT[1]),
    ("reader", CUT[0]),
    *[pytest.param(stage, CUT[i], marks=pytest.mark.slow) for stage, i in (("sft", 0), ("prm", 0), ("prm", 1))],
    pytest.param("reader", CUT[1], marks=pytest.mark.slow),
]
# One update of plain gradient descent at rate 1 moves the parameters by minus the gradient.
DESCENT = optax.sgd(1.0)


@functools.cache
def examples(stage: str) -> tuple[Example, ...]:
    """Seven examples of 3 to 9 tokens; about half of their positions learn a token (sft) or a class (the others)."""
    rng = np.random.default_rng(0)
    found = []
    for n in (5, 3, 9, 4, 7, 8, 6):
        tokens = rng.integers(0, CONFIG.vocab, n).astype(np.int32)
        targets = np.append(tokens[1:], -1) if stage == "sft" else rng.integers(0, 3, n)
        learned = rng.random(n) < 0.5
        learned[1] = True
        targets = np.where(learned, targets, -1).astype(np.int32)
        if stage == "reader":
            targets[0] = PROMPT
        found.append(Example(tokens, targets))
    return tuple(found)


def packed(stage: str) -> dict[str, np.ndarray]:
    (batch,) = pack_all(examples(stage), rows=ROWS, width=WIDTH)
    assert batch["segments"].max() == 2 and not batch["segments"][-1].any()  # shared rows, padding, empty rows
    return batch


def unpacked(stage: str) -> dict[str, np.ndarray]:
    """An example a row."""
    parts = [pack_all([e], rows=1, width=WIDTH)[0] for e in (*examples(stage), Example(*np.zeros((2, 0), np.int32)))]
    return {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}


@functools.cache
def program(stage: str, mesh_shape: tuple[int, ...]):
    definition, _, sums = ROLES[stage]
    mesh = make_mesh(*mesh_shape, devices=jax.devices()[: int(np.prod(mesh_shape))])
    return train_program(stage, sums, definition(), DESCENT, mesh, rows=ROWS, width=WIDTH)


def update(stage: str, batch: dict[str, np.ndarray], mesh_shape=ALONE):
    """(gradient, metrics) of one update."""
    definition, params, _ = ROLES[stage]
    made = program(stage, mesh_shape)
    placed = jax.device_put(params(), definition().shardings(made.mesh))
    like = abstract_state(definition(), DESCENT, made.mesh)
    state, metrics = made(init_state(placed, DESCENT, like, made.mesh), put_batch(batch, made.mesh))
    assert all(
        x.sharding.is_equivalent_to(y.sharding, x.ndim)
        for x, y in zip(*map(jax.tree.leaves, (state, like)), strict=True)
    )
    return jax.tree.map(lambda old, new: np.asarray(old) - np.asarray(new), params(), state["params"]), fetch(metrics)


def assert_close(found, wanted, atol):
    for (path, a), b in zip(jax.tree.leaves_with_path(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=atol, err_msg=jax.tree_util.keystr(path))


@functools.cache
def scores_alone(stage: str) -> list[np.ndarray]:
    """Logits of each example on a row of its own, without padding's neighbours: [n, classes or vocabulary] each."""
    definition, params, _ = ROLES[stage]

    @jax.jit
    def run(params, tokens, positions, segments):
        model = definition().bind(params)
        return model(tokens) if stage == "sft" else model(tokens, positions, segments)

    tokens = unpacked(stage)["tokens"]
    positions = np.broadcast_to(np.arange(WIDTH, dtype=np.int32), tokens.shape)
    logits = np.asarray(run(params(), tokens, positions, np.ones_like(tokens)), np.float64)
    return [logits[i, : len(e.tokens)] for i, e in enumerate(examples(stage))]


def by_hand(stage: str) -> dict[str, float]:
    losses, right = [], []
    for example, logits in zip(examples(stage), scores_alone(stage), strict=True):
        for scores, target in zip(logits, example.targets, strict=True):
            if target >= 0:
                losses.append(np.log(np.exp(scores).sum()) - scores[target])
                right.append(scores.argmax() == target)
    figures = {"loss": np.mean(losses), "tokens": len(losses)}
    if stage != "sft":
        figures["accuracy"] = np.mean(right)
    if stage == "reader":
        figures["classes_loss"], figures["lm_loss"] = figures["loss"], -np.mean(logprobs_of_steps_that_are_not_bad())
        figures["loss"] += LM_LOSS * figures["lm_loss"]
    return figures


def logprobs_of_steps_that_are_not_bad() -> list[float]:
    """The reader's own language model on the response's tokens up to the end of a step that is neutral or good."""
    language = jax.jit(lambda params, tokens: reader().bind(params).language(tokens))
    logits = np.asarray(language(reader_params(), unpacked("reader")["tokens"]), np.float64)
    found = []
    for i, example in enumerate(examples("reader")):
        for t, token in enumerate(example.tokens):
            classes = [c for c in example.targets[t:] if c >= 0]
            if example.targets[t] != PROMPT and classes and classes[0] > 0:
                before = logits[i, t - 1]
                found.append(before[token] - np.log(np.exp(before).sum()))
    return found


@pytest.mark.parametrize("stage", ROLES)
def test_the_figures_are_means_over_target_tokens(stage):
    wanted = by_hand(stage)
    gradient, metrics = update(stage, packed(stage))
    assert metrics.keys() == wanted.keys() | {"grad_norm"}
    norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in jax.tree.leaves(gradient)))
    for name, value in {**wanted, "grad_norm": norm}.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, err_msg=name)
    assert 0 < wanted.get("accuracy", 0.5) < 1 and norm > 0.1


@pytest.mark.parametrize("stage", ROLES)
def test_packed_rows_have_the_gradient_of_unpacked_ones(stage):
    together, alone = update(stage, packed(stage)), update(stage, unpacked(stage))
    assert_close(together[0], alone[0], atol=1e-5)
    np.testing.assert_allclose(together[1]["loss"], alone[1]["loss"], rtol=1e-5)


@pytest.mark.parametrize(("stage", "mesh_shape"), SHARDED)
def test_sharded_equals_one_device(stage, mesh_shape):
    (wanted, wanted_metrics), (found, metrics) = (update(stage, packed(stage), m) for m in (ALONE, mesh_shape))
    assert_close(found, wanted, atol=1e-5)
    assert_close(metrics, wanted_metrics, atol=1e-5)


def test_the_gradient_of_the_bias_by_hand():
    """It is the mean over target positions of probabilities minus the one-hot target."""
    gradient, _ = update("prm", packed("prm"))
    total, count = np.zeros(3), 0
    for example, logits in zip(examples("prm"), scores_alone("prm"), strict=True):
        for scores, target in zip(logits, example.targets, strict=True):
            if target >= 0:
                total += np.exp(scores) / np.exp(scores).sum() - np.eye(3)[target]
                count += 1
    np.testing.assert_allclose(gradient["bias"], total / count, rtol=1e-4, atol=1e-6)


def test_what_learns_nothing_moves_nothing():
    batch = packed("sft")
    gradient, metrics = update("sft", {**batch, "targets": np.full_like(batch["targets"], -1)})
    assert metrics["loss"] == metrics["tokens"] == metrics["grad_norm"] == 0.0
    assert not any(x.any() for x in jax.tree.leaves(gradient))


@pytest.mark.parametrize(("stage", "mesh"), [*((stage, (8, 1, 1)) for stage in ROLES), ("sft", (1, 1, 1, 8))])
def test_held_out_rows_are_measured_alike(stage, mesh):
    definition, params, sums = ROLES[stage]
    made = valid_program(stage, sums, definition(), make_mesh(*mesh), rows=ROWS, width=WIDTH)
    placed = jax.device_put(params(), definition().shardings(made.mesh))
    found = fetch(made(placed, put_batch(packed(stage), made.mesh)))
    wanted = by_hand(stage)
    assert found.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-4)

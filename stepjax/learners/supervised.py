"""Update programs of supervised training: the policy on demonstrations, the process reward model on labelled steps."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from stepjax.data.packing import PROMPT
from stepjax.learners.losses import classification_loss
from stepjax.learners.optimizers import State, abstract_state, apply_gradients
from stepjax.models import Definition, LanguageModel, ScoreModel, StepReader
from stepjax.models.definition import Params
from stepjax.models.read_positions import chunk_turns
from stepjax.models.trainable import Trainable, join
from stepjax.parallel import batch_sharding, put, row_parts
from stepjax.programs import Program, abstract
from stepjax.row_parts import cut, joined

Batch = dict[str, jax.Array]
"""Packed rows, int32[B, T] each: `tokens`, `segments` (0: padding), `positions`, and `targets`: the next token where it
is to be learned (SFT) or a step's class at its last token (PRM: 0 bad, 1 neutral, 2 good); elsewhere −1, or
`PROMPT` on the prompt of labelled steps."""

# (model, batch, parts=into how many parts its rows are cut) -> (sum of losses, what to count: named sums over tokens;
# "tokens" divides them)
LossSums = Callable[..., tuple[Float[Array, ""], dict[str, Array]]]


def abstract_batch(
    rows: int, width: int, mesh: Mesh, *, values: bool = False, parts: int = 1
) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a batch; with `values` it has soft labels, float32[B, T]. `parts`: its rows are cut into so many."""
    size, sharding = (parts * rows, width // parts), batch_sharding(mesh)
    leaf, soft = (jax.ShapeDtypeStruct(size, dtype, sharding=sharding) for dtype in (jnp.int32, jnp.float32))
    batch = dict.fromkeys(("tokens", "segments", "positions", "targets"), leaf)
    return batch | {"values": soft} if values else batch


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> Batch:
    """A batch of whole rows on the devices, as the programs take it: cut into `row_parts(mesh)` parts."""
    return put({name: cut(x, row_parts(mesh)) for name, x in batch.items()}, batch_sharding(mesh))


def sft_sums(model: LanguageModel, batch: Batch, *, parts: int = 1) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Summed cross-entropy of the next token where it is a target."""
    mask = batch["targets"] >= 0
    hidden = model.trunk(batch["tokens"], batch["positions"], batch["segments"], parts=parts)
    logprobs, _ = model.token_logprobs(hidden, jnp.maximum(batch["targets"], 0), entropy=False, read=mask)
    loss = -jnp.sum(jnp.where(mask, logprobs, 0.0))
    return loss, {"tokens": jnp.sum(mask)}


def weighted_sums(
    model: LanguageModel, batch: Batch, *, reference: LanguageModel | None = None, kl: float = 0.0, parts: int = 1
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Summed cross-entropy of the next token where it is a target, each times its weight (the batch's `values`).

    With a `reference` plus `kl` × weight × KL(π ‖ π_reference), the exact one over the vocabulary: targets come from a
    search and not from π, so that what estimates a divergence from samples of π (k1, k3) would be biased at them.
    Means are over weights.
    """
    mask = batch["targets"] >= 0
    weights = jnp.where(mask, batch["values"], 0.0)
    hidden = model.trunk(batch["tokens"], batch["positions"], batch["segments"], parts=parts)
    logprobs, _ = model.token_logprobs(hidden, jnp.maximum(batch["targets"], 0), entropy=False, read=mask)
    loss = -jnp.sum(jnp.where(mask, weights * logprobs, 0.0))
    counts = {"tokens": jnp.sum(weights)}
    if reference is None:
        return loss, counts
    others = reference.trunk(batch["tokens"], batch["positions"], batch["segments"], parts=parts)
    divergence = jnp.sum(jnp.where(mask, weights * model.divergence(hidden, reference, others), 0.0))
    return loss + kl * divergence, counts | {"target_loss": loss, "kl": divergence}


def label_losses(logits: Float[Array, "B T C"], batch: Batch, objective: str) -> Float[Array, "B T"]:
    """The loss of each label, 0 where there is none.

    `class`: cross-entropy of the class. `bce`: −v log p − (1 − v) log(1 − p) with p = P(good), the last class, and v
    the batch's value. `mse`: (p − v)², as for the token-level verifier [Cobbe 2021].
    """
    mask = batch["targets"] >= 0
    if objective == "class":
        return classification_loss(logits, jnp.maximum(batch["targets"], 0), mask)
    logprobs, values = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1), batch["values"]
    good, other = logprobs[..., -1], jax.nn.logsumexp(logprobs[..., :-1], axis=-1)
    losses = {
        "bce": lambda: -values * good - (1 - values) * other,
        "mse": lambda: jnp.square(jnp.exp(good) - values),
    }[objective]()
    return jnp.where(mask, losses, 0.0)


def prm_sums(
    model: ScoreModel, batch: Batch, *, objective: str = "class", parts: int = 1
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Summed loss of the labels at each step's last token, and how often the likeliest class is right."""
    logits = model(batch["tokens"], batch["positions"], batch["segments"], parts=parts)
    return jnp.sum(label_losses(logits, batch, objective)), _label_counts(logits, batch)


def reader_sums(
    model: StepReader, batch: Batch, *, lm_loss: float, objective: str = "class", parts: int = 1
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """`prm_sums`, plus `lm_loss` × the mean cross-entropy of the response's tokens in steps that are not bad."""
    logits, logprobs = model.scores_and_logprobs(batch["tokens"], batch["positions"], batch["segments"], parts=parts)
    losses = jnp.sum(label_losses(logits, batch, objective))
    classes = cut(classes_by_token(*(joined(batch[name], parts) for name in ("targets", "segments"))), parts)
    learned = (batch["targets"] != PROMPT) & (classes > 0)
    language = -jnp.sum(jnp.where(learned, logprobs, 0.0)) / jnp.maximum(jnp.sum(learned), 1)
    counts = _label_counts(logits, batch)
    weighted = language * counts["tokens"]
    return losses + lm_loss * weighted, counts | {"classes_loss": losses, "lm_loss": weighted}


def _label_counts(logits: Float[Array, "B T C"], batch: Batch) -> dict[str, Array]:
    mask = batch["targets"] >= 0
    right = mask & (jnp.argmax(logits, axis=-1) == jnp.maximum(batch["targets"], 0))
    return {"tokens": jnp.sum(mask), "accuracy": jnp.sum(right)}


def classes_by_token(targets: Int[Array, "B T"], segments: Int[Array, "B T"]) -> Int[Array, "B T"]:
    """The class of the step that each token is in: the next target of its segment; −1 where none follows."""
    width = targets.shape[1]
    at = jnp.where(targets >= 0, jnp.arange(width), width)
    following = jax.lax.cummin(at, axis=1, reverse=True)
    inside = jnp.minimum(following, width - 1)
    same = (following < width) & (jnp.take_along_axis(segments, inside, axis=1) == segments)
    return jnp.where(same, jnp.take_along_axis(targets, inside, axis=1), -1)


def train_program(
    name: str,
    sums: LossSums,
    definition: Definition,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    rows: int,
    width: int,
    values: bool = False,
    trainable: Trainable | None = None,
    reference: bool = False,
) -> Program:
    """`(state, batch) -> (state, metrics)`, the state donated; the loss is the mean over target tokens.

    Batches come from `put_batch`. Where only `trainable` is trained, the others are a third argument. With `reference`
    the last argument is all parameters of a model that stands still, which `sums` takes as `reference`.
    """
    trainable, parts = trainable or Trainable(definition), row_parts(mesh)

    def update(state: State, batch: Batch, *others: Params) -> tuple[State, dict[str, Array]]:
        frozen = others[:-1] if reference else others
        still = {"reference": definition.bind(others[-1])} if reference else {}

        def loss(params: Params) -> tuple[Array, dict[str, Array]]:
            model = definition.bind(join(params, *frozen) if frozen else params)
            total, counts = sums(model, batch, parts=parts, **still)
            return total / jnp.maximum(counts["tokens"], 1), counts

        (value, counts), gradients = jax.value_and_grad(loss, has_aux=True)(state["params"])
        state, norm = apply_gradients(state, gradients, optimizer)
        return state, {"loss": value, **_means(counts), "grad_norm": norm}

    like = abstract_state(trainable, optimizer, mesh)
    shardings = jax.tree.map(lambda x: x.sharding, like)
    inputs: tuple[Any, ...] = (like, abstract_batch(rows, width, mesh, values=values, parts=parts))
    if trainable.frozen_shapes:
        inputs += (trainable.abstract_frozen(mesh),)
    if reference:
        inputs += (abstract(definition.shapes, definition.shardings(mesh)),)
    section, out = f"config.{name.partition('_')[0]}", (shardings, None)
    grows = f"{section}.rows or {section}.row_tokens"
    return Program(
        f"{name}_update",
        update,
        mesh=mesh,
        inputs=inputs,
        donate=(0,),
        out_shardings=out,
        turns=chunk_turns(width // parts),
        grows_with=grows,
    )


def valid_program(name: str, sums: LossSums, definition: Definition, mesh: Mesh, *, rows: int, width: int) -> Program:
    """`(params, batch) -> metrics` of held-out rows; batches come from `put_batch`."""
    parts = row_parts(mesh)

    def measure(params: Params, batch: Batch) -> dict[str, Array]:
        total, counts = sums(definition.bind(params), batch, parts=parts)
        return {"loss": total / jnp.maximum(counts["tokens"], 1), **_means(counts)}

    params = abstract(definition.shapes, definition.shardings(mesh))
    inputs = (params, abstract_batch(rows, width, mesh, parts=parts))
    return Program(f"{name}_valid", measure, mesh=mesh, inputs=inputs)


def _means(counts: dict[str, Array]) -> dict[str, Array]:
    """Named sums over tokens become means; the token count stays a count."""
    tokens = jnp.maximum(counts["tokens"], 1)
    return {k: v if k == "tokens" else v / tokens for k, v in counts.items()}

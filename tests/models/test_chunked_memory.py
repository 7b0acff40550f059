"""Memory of a PPO update at the vocabulary of Qwen2: log-probs in chunks, so that [B, T, V] logits never exist."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import optax
import pytest
from models.tiny import CONFIG

from stepjax.config import PPOOptions, StreamOptions
from stepjax.learners.update import update_program
from stepjax.models import Definition, LanguageModel, read_positions
from stepjax.models.read_positions import CHUNK, chunk_for
from stepjax.parallel import batch_sharding, make_mesh
from stepjax.steps import Steps
from stepjax.trajectory import Trajectory

VOCAB, ROWS, PROMPT, RESPONSE = 151_936, 4, 64, 512
OPTIONS = PPOOptions(
    prompts=ROWS,
    epochs=1,
    minibatches=1,
    row_tokens=PROMPT + RESPONSE,
    micro_tokens=ROWS * (PROMPT + RESPONSE),
    streams={"process": StreamOptions(signal="verifier", critic=False)},
)


def rows(mesh):
    """The abstract trajectory of a round."""

    def array(dtype, *shape):
        return jax.ShapeDtypeStruct((ROWS, *shape), dtype, sharding=batch_sharding(mesh))

    width = PROMPT + RESPONSE
    tokens, numbers = array(jnp.int32, width), array(jnp.float32, width)
    flags, streams = array(jnp.bool_, width), array(jnp.float32, 1, width)
    return Trajectory(
        tokens=tokens,
        prompt_length=array(jnp.int32),
        response_length=array(jnp.int32),
        finished=array(jnp.bool_),
        logprobs=numbers,
        prompt_width=PROMPT,
        steps=Steps(tokens, flags),
        old_logprobs=numbers,
        ref_logprobs=numbers,
        entropy=numbers,
        values=streams,
        rewards=streams,
        advantages=streams,
        returns=streams,
        policy_weight=numbers,
    )


def peak(monkeypatch, chunk):
    """Bytes of the compiled update beyond its arguments."""
    with monkeypatch.context() as patch:
        whole = functools.partialmethod(LanguageModel.token_logprobs, chunk=chunk)
        patch.setattr(LanguageModel, "token_logprobs", whole)
        mesh = make_mesh(1, 1, 1, devices=jax.devices()[:1])
        config = dataclasses.replace(CONFIG, vocab=VOCAB)
        definition = Definition(lambda rngs: LanguageModel(config, rngs))
        program = update_program(OPTIONS, definition, None, {"policy": optax.sgd(1e-3)}, mesh, rows(mesh))
        return program.compile().memory_analysis().temp_size_in_bytes


@pytest.mark.slow
def test_chunks_keep_the_logits_small(monkeypatch, capsys):
    width = PROMPT + RESPONSE
    logits = ROWS * width * VOCAB * 4
    chunked, whole = peak(monkeypatch, 128), peak(monkeypatch, width)
    with capsys.disabled():
        print(
            f"\na PPO update of {ROWS} × {width} tokens, vocabulary {VOCAB}: {chunked / 1e9:.2f} GB in chunks "
            f"of 128 positions, {whole / 1e9:.2f} GB at once (logits alone {logits / 1e9:.2f} GB)"
        )
    assert whole > 2 * logits, "the measure sees the logits and their gradient"
    assert chunked < 0.5 * whole


def test_accelerators_take_as_many_positions_as_memory_allows(monkeypatch):
    assert chunk_for(8, 1 << 16) == CHUNK == 128, "a CPU takes few"
    monkeypatch.setattr(read_positions, "platform_in_context", lambda: "tpu")
    assert chunk_for(4, 1 << 16) == (256 << 20) // (4 * 4 << 16) == 256
    assert chunk_for(4, 1000) == (256 << 20) // 16_000 // 128 * 128
    assert chunk_for(64, 1 << 16) == 128, "at least so many"
    with jax.set_mesh(make_mesh(2, 2, 2)):  # four parts of the rows, two of the vocabulary
        assert chunk_for(16, 1 << 17) == 256
        assert chunk_for(13, 1 << 17) == 256

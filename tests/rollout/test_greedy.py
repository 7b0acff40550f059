"""Greedy decoding through the slot engine gives the tokens of transformers, for every family."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from models.family_cases import CASES, tokens, write_checkpoint
from rollout.greedy_cases import GOLDEN, NEW, PROMPTS, continuations

from stepjax.models import load_pretrained
from stepjax.rollout.decoding import Decoding
from stepjax.rollout.engine import generate_in_slots
from stepjax.rollout.sampling import Sampler

WIDTH = max(PROMPTS)
FAST = ("qwen2-window", "qwen3-bias", "llama-gelu", "mistral-window", "gemma2-caps", "gemma3-alternating")

RINGS = [pytest.param(n, 0, marks=() if n in FAST else pytest.mark.slow) for n in CASES]
BLOCKS = [pytest.param(n, 2, marks=() if n in FAST[-2:] else pytest.mark.slow) for n in CASES]


@pytest.mark.parametrize("name, page", [*RINGS, *BLOCKS])
def test_greedy_tokens_are_those_of_transformers(name: str, page: int, tmp_path: Path) -> None:
    """`page`: tokens of a block of the cache; 0: it has none."""
    model = load_pretrained(write_checkpoint(tmp_path, CASES[name]))
    prompts = np.zeros((3, WIDTH), np.int32)
    for row, length in enumerate(PROMPTS):
        prompts[row, WIDTH - length :] = tokens()[row, :length]

    @jax.jit
    def run(params):
        how = Decoding(NEW, slots=2, eos=(10**6,), sampler=Sampler(0.0), page=page, blocks=page and 99)
        bound = model.definition.bind(params)
        ids = np.arange(3, dtype=np.int32)
        return generate_in_slots(bound, prompts, np.array(PROMPTS, np.int32), jax.random.key(0), ids, how)[0]

    found = jax.device_get(run(model.params))
    assert found.tokens[:, WIDTH:].tolist() == json.loads(GOLDEN.read_text())[name]


@pytest.mark.parametrize("name", ["qwen3-bias", "gemma2-caps"])
def test_the_golden_tokens_are_what_transformers_says(name: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    assert continuations(name, tmp_path) == json.loads(GOLDEN.read_text())[name]

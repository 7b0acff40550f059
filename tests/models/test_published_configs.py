"""config.json as published: the decoder that it describes has the published number of parameters."""

import dataclasses
import math

import jax
import pytest

from stepjax.models import Definition, LanguageModel
from stepjax.models.families import family_of


def sizes(kind, vocab, layers, width, mlp, heads, kv_heads, **more):
    return {
        "model_type": kind,
        "vocab_size": vocab,
        "num_hidden_layers": layers,
        "hidden_size": width,
        "intermediate_size": mlp,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "attention_dropout": 0.0,
        "use_cache": True,
        "initializer_range": 0.02,
        "transformers_version": "4.44.0",
        **more,
    }


LLAMA3 = {
    "factor": 32.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}
GEMMA3 = {"sliding_window": 512, "sliding_window_pattern": 6, "rope_local_base_freq": 10000, "rope_scaling": None}

PUBLISHED = {
    "Qwen2.5-0.5B": (
        494_032_768,
        sizes("qwen2", 151936, 24, 896, 4864, 14, 2, sliding_window=32768, max_window_layers=24,
              use_sliding_window=False, use_mrope=False, rope_theta=1000000.0, tie_word_embeddings=True),
    ),
    "Qwen3-0.6B": (
        596_049_920,
        sizes("qwen3", 151936, 28, 1024, 3072, 16, 8, head_dim=128, attention_bias=False, sliding_window=None,
              max_window_layers=28, use_sliding_window=False, rope_scaling=None, rope_theta=1000000,
              tie_word_embeddings=True),
    ),
    "Llama-3.2-1B": (
        1_235_814_400,
        sizes("llama", 128256, 16, 2048, 8192, 32, 8, head_dim=64, mlp_bias=False, pretraining_tp=1,
              max_position_embeddings=131072, rope_scaling=LLAMA3, rope_theta=500000.0, tie_word_embeddings=True),
    ),
    "Mistral-7B-v0.1": (7_241_732_096, sizes("mistral", 32000, 32, 4096, 14336, 32, 8, sliding_window=4096)),
    "Gemma-2-2B": (
        2_614_341_888,
        sizes("gemma2", 256000, 26, 2304, 9216, 8, 4, head_dim=256, query_pre_attn_scalar=256, sliding_window=4096,
              hidden_act="gelu_pytorch_tanh", hidden_activation="gelu_pytorch_tanh", final_logit_softcapping=30.0,
              attn_logit_softcapping=50.0, cache_implementation="hybrid"),
    ),
    "Gemma-3-1B": (
        999_885_952,
        sizes("gemma3_text", 262144, 26, 1152, 6912, 4, 1, head_dim=256, query_pre_attn_scalar=256, rope_theta=1000000,
              attn_logit_softcapping=None, final_logit_softcapping=None, **GEMMA3),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters(name):
    count, config = PUBLISHED[name]
    decoder = family_of(name, config).decoder(name, config)
    definition = Definition(lambda rngs: LanguageModel(decoder, rngs))
    assert sum(math.prod(x.shape) for x in jax.tree.leaves(definition.shapes)) == count


def test_gemma_layers_alternate():
    two, three = (family_of("", PUBLISHED[n][1]).decoder("", PUBLISHED[n][1]) for n in ("Gemma-2-2B", "Gemma-3-1B"))
    assert two.windows == (4096, 0) * 13 and two.local_rope is None
    assert three.windows == ((512,) * 5 + (0,)) * 4 + (512, 512)
    assert three.local_rope.theta == 10_000.0 and three.rope_theta == 1_000_000.0
    assert (two.logit_cap, two.attention_cap, three.logit_cap, three.attention_cap) == (30.0, 50.0, 0.0, 0.0)
    assert dataclasses.astuple(two.rope) == (10_000.0, None)

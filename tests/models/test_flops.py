"""FLOPs by arithmetic, against a count by hand."""

import pytest

from stepjax.models import Definition, LanguageModel, ScoreModel, StepReader
from stepjax.models.config import DecoderConfig
from stepjax.models.flops import attention_channels, forward_flops, product_params
from stepjax.models.lora import LoRA

SHAPE = {"vocab": 40, "layers": 3, "width": 24, "heads": 4, "kv_heads": 2, "head_dim": 8, "mlp": 56}
LAYER = 24 * 8 * (4 + 2 + 2) + 4 * 8 * 24 + 3 * 24 * 56


def definition(make, **changes):
    return Definition(lambda rngs: make(DecoderConfig(**{**SHAPE, **changes}), rngs))


@pytest.mark.parametrize("tied", [True, False])
def test_a_language_model_has_one_output_matrix(tied):
    found = definition(LanguageModel, tied=tied, qkv_bias=True, qk_norm=True)
    assert product_params(found) == 3 * LAYER + 40 * 24
    assert attention_channels(found) == 3 * 4 * 8
    flops = forward_flops(found, tokens=10, pairs=50)
    assert flops == 2 * 10 * (3 * LAYER + 40 * 24) + 4 * 50 * 3 * 4 * 8


def test_heads_and_readers():
    score = definition(lambda config, rngs: ScoreModel(config, 5, rngs), tied=True)
    assert product_params(score) == 3 * LAYER + 24 * 5, "nobody multiplies with the score model's embedding"
    reader = definition(lambda config, rngs: StepReader(config, 1, 3, rngs), tied=True)
    assert attention_channels(reader) == 4 * 4 * 8
    assert product_params(reader) == 4 * LAYER + 40 * 24 + 24 * 3 + 2 * 24


def test_adapters_count():
    lora = LoRA(2, 4.0, ("query", "down"))
    plain, adapted = definition(LanguageModel, tied=True), definition(LanguageModel, tied=True, lora=lora)
    assert product_params(adapted) - product_params(plain) == 3 * 2 * (24 + 32 + 56 + 24)

"""The decoder that policy, critic and process reward model share, and adapters on it."""

from dataclasses import dataclass

from stepjax.config.option import option

FLOATS = ("float32", "bfloat16")


@dataclass(frozen=True)
class ModelOptions:
    """Shape of the decoder that policy, critic and process reward model share."""

    path: str = option(
        "",
        "checkpoint that the policy starts from (Hugging Face folder or hub name, a .gguf file, or package:NAME for "
        "that of an installed Python package); it sets shape and tokenizer, and stage sft may then be left out",
    )
    vocab: int = option(
        0,
        "rows of the embedding, at least the tokenizer's entries; 0: that number, rounded up to a multiple of 8",
        least=0,
    )
    layers: int = option(2, "transformer layers", least=1)
    width: int = option(64, "hidden size", least=1)
    heads: int = option(4, "query heads", least=1)
    kv_heads: int = option(4, "key and value heads", least=1)
    head_dim: int = option(16, "size of a head", least=1)
    mlp: int = option(192, "inner size of the gated MLP", least=1)
    rope_theta: float = option(10_000.0, "base of the rotary position embeddings", above=0)
    qkv_bias: bool = option(False, "biases on query, key and value, as in Qwen2")
    qk_norm: bool = option(True, "norms on query and key, as in Qwen3")
    tied: bool = option(False, "one table for the input and output embeddings")
    dtype: str = option("float32", "dtype of the computation: float32 or bfloat16", choices=FLOATS)
    param_dtype: str = option("float32", "dtype of the stored parameters", choices=FLOATS)
    unroll: int = option(
        1,
        "layers per iteration of the layer loop over whole rows; more take longer to compile and run faster on a CPU "
        "(decoding has its own layout, decode_layers)",
        least=1,
    )
    decode_layers: str = option(
        "auto",
        "the layers while decoding: apart (each with code and arrays of its own), scanned (a loop over stacked ones, "
        "compiled once for all) or auto (the one that suits the devices: apart on CPUs, else scanned)",
        choices=("auto", "apart", "scanned"),
        resumable=True,
    )
    cache_dtype: str = option(
        "",
        "dtype of the rollout's key-value cache: bfloat16 or int8 (with a scale per token and head); empty: `dtype`",
        choices=("", "bfloat16", "int8"),
        resumable=True,
    )
    remat: bool = option(False, "recompute a layer's activations in the backward pass")
    remat_policy: str = option(
        "full",
        "with remat, what is recomputed: full (all of a layer), dots (all but its matrix products), weight_dots (all "
        "but its products with weights) or offload (all; the layers' inputs wait in the memory of the TPU's or GPU's "
        "host; on a CPU as full)",
        choices=("full", "dots", "weight_dots", "offload"),
        resumable=True,
    )
    attention: str = option(
        "auto",
        "attention kernel over whole rows: xla, splash (TPU), cudnn (NVIDIA GPU, bfloat16) or auto (the one that suits "
        "the devices)",
        choices=("auto", "xla", "splash", "cudnn"),
        resumable=True,
    )


@dataclass(frozen=True)
class LoRAOptions:
    """Low-rank adapters: the base is frozen; only adapters and heads are trained and saved."""

    rank: int = option(0, "rank of the adapters; 0: no adapters, all parameters are trained", least=0)
    alpha: float = option(16.0, "the adapter's output is scaled by alpha / rank", above=0)
    modules: tuple[str, ...] = option(
        ("query", "key", "value", "output", "gate", "up", "down"), "the projections of each layer that have adapters"
    )
    stages: tuple[str, ...] = option(
        ("prm", "ppo"),
        "stages that train adapters, of sft, prm, improve and ppo; earlier ones train all parameters, which become the "
        "base",
    )
    path: str = option(
        "", "folder of a PEFT adapter that the policy starts with, on the checkpoint of model.path; empty: a new one"
    )

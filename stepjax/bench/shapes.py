"""Models and workloads of known shape, so that other software can be timed on the same.

All have random parameters. They are decoders like Qwen2's (biases on query, key and value, an output embedding of its
own) but for 135m, which is SmolLM2's (no biases, one table for both embeddings).
A rollout draws 64 prompts of 32 tokens, decodes 16 rows at once and cuts them at 256 new tokens; a round of training
has 32 responses (8 of the larger models) of at most 128 tokens. With random parameters each token is about equally
likely, so that the number of ids that end a response decides how long it becomes, and lengths are geometric: as skewed
as those of real reasoning.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from stepjax.config import BenchOptions, Config, PPOOptions, StreamOptions
from stepjax.errors import UserError


@dataclass(frozen=True)
class Shape:
    """A decoder; `rows` are the responses of a round of training."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    vocab: int
    rows: int
    tied: bool = False
    qkv_bias: bool = True


SHAPES = {
    "1m": Shape(layers=4, width=128, heads=4, kv_heads=2, head_dim=32, mlp=512, vocab=512, rows=32),
    "30m": Shape(layers=8, width=512, heads=8, kv_heads=4, head_dim=64, mlp=2048, vocab=4096, rows=8),
    "135m": Shape(
        layers=30, width=576, heads=9, kv_heads=3, head_dim=64, mlp=1536, vocab=49152, rows=8, tied=True, qkv_bias=False
    ),
    "0.5b": Shape(layers=24, width=896, heads=14, kv_heads=2, head_dim=64, mlp=4864, vocab=151936, rows=8),
}

ROLLOUT_ROWS, SLOTS, PROMPT_TOKENS = 64, 16, 32
ROLLOUT_TOKENS, TRAINED_TOKENS = 256, 128

NEVER = -1
"""An id that no token has: a response that only it could end has the full length."""

FIRST_END = 3
"""Ids from here on end responses of geometric lengths."""


def end_ids(vocab: int, mean_length: int) -> tuple[int, ...]:
    """As many ids as end a response of equally likely tokens after `mean_length` on average; 0: none does."""
    if not mean_length:
        return (NEVER,)
    return tuple(range(FIRST_END, FIRST_END + max(1, round(vocab / mean_length))))


def bench_config(config: Config, program: str) -> Config:
    """The config of the run whose programs are timed: that of the options' shape, or with shape `own` the config's.

    Everything that the shape does not set (remat, kernels, the mesh, the token budget …) stays unchanged.
    UserError where the workload is inconsistent.
    """
    options = config.bench
    model, ppo = config.model, config.ppo
    if options.shape != "own":
        shape = SHAPES[options.shape]
        sizes = dataclasses.asdict(shape)
        del sizes["rows"]
        model = dataclasses.replace(
            model,
            **sizes,
            path="",
            rope_theta=10_000.0,
            qk_norm=False,
            dtype="float32",
            unroll=shape.layers,
        )
        ppo = dataclasses.replace(
            ppo,
            **_workload(shape, program),
            epochs=1,
            minibatches=1,
            streams={"bench": StreamOptions(signal="prm" if options.prm else "outcome")},
        )
    model = dataclasses.replace(model, dtype=options.dtype or model.dtype, unroll=options.unroll or model.unroll)
    return dataclasses.replace(config, base="", model=model, ppo=_changed(ppo, options))


WORKLOAD = {
    "prompts": "rows",
    "samples": "samples",
    "prompt_tokens": "prompt_tokens",
    "max_new_tokens": "new_tokens",
    "slots": "slots",
}
"""Options of config.ppo that a shape sets, by the option of the benchmark that changes each."""


def not_read(config: Config, program: str, default: Config) -> list[str]:
    """What of a config's rounds the benchmark of a program leaves out, where it is not the default's, a line each."""
    options, ppo, found = config.bench, config.ppo, []
    if options.shape != "own":
        for name, own in WORKLOAD.items():
            if (value := getattr(ppo, name)) != getattr(default.ppo, name):
                found.append(f"config.ppo.{name}={value} is not read with shape {options.shape}; see config.{own}")
    for name in ("carry", "waves"):
        if program in ("rollout", "iteration") and (value := getattr(ppo, name)) != getattr(default.ppo, name):
            found.append(f"rounds are timed without config.ppo.{name}={value}")
    return found


def _workload(shape: Shape, program: str) -> dict[str, Any]:
    rollout = program == "rollout"
    return {
        "prompts": ROLLOUT_ROWS if rollout else shape.rows,
        "samples": 1,
        "prompt_tokens": PROMPT_TOKENS,
        "max_new_tokens": ROLLOUT_TOKENS if rollout else TRAINED_TOKENS,
        "min_new_tokens": 0,
        "slots": SLOTS,
    }


def _changed(ppo: PPOOptions, options: BenchOptions) -> PPOOptions:
    """The workload with the changes of the command line; a rollout of all rows at once is timed."""
    samples = options.samples or ppo.samples
    rows = options.rows or ppo.prompts * ppo.samples
    if rows % samples:
        raise UserError(f"config.samples: {samples} responses per prompt do not divide {rows} responses per round")
    return dataclasses.replace(
        ppo,
        prompts=rows // samples,
        samples=samples,
        prompt_tokens=options.prompt_tokens or ppo.prompt_tokens,
        max_new_tokens=options.new_tokens or ppo.max_new_tokens,
        slots=options.slots or ppo.slots,
        waves=1,
    )

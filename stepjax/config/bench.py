"""`stepjax bench`."""

from dataclasses import dataclass

from stepjax.config.model import FLOATS
from stepjax.config.option import option


@dataclass(frozen=True)
class BenchOptions:
    """`stepjax bench`: time and memory of a run's programs, with random parameters. 0: the default of the shape."""

    shape: str = option(
        "1m",
        "model and workload: 1m, 30m, 135m (SmolLM2-135M), 0.5b (Qwen2.5-0.5B), or own (config.model and config.ppo "
        "as they are)",
        choices=("1m", "30m", "135m", "0.5b", "own"),
        resumable=True,
    )
    dtype: str = option("", "dtype of the computation; empty: float32", choices=("", *FLOATS), resumable=True)
    mean_length: int = option(
        0,
        "mean length of a response in tokens (geometric, cut at new_tokens); 0: every response has new_tokens",
        least=0,
        resumable=True,
    )
    rows: int = option(0, "responses per round", least=0, resumable=True)
    samples: int = option(0, "responses per prompt", least=0, resumable=True)
    slots: int = option(0, "responses decoded at once", least=0, resumable=True)
    prompt_tokens: int = option(0, "tokens per prompt", least=0, resumable=True)
    new_tokens: int = option(0, "tokens of the longest response", least=0, resumable=True)
    unroll: int = option(
        0, "layers per iteration of the layer loop; 0: all, or config.model's with shape own", least=0, resumable=True
    )
    prm: bool = option(False, "score the steps with a process reward model of the same shape", resumable=True)
    repeats: int = option(3, "timed runs after one warm-up run; the figure is their median", least=1, resumable=True)

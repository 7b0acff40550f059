"""`stepjax bench`."""

from dataclasses import dataclass

from stepjax.config.model import FLOATS
from stepjax.config.option import option


@dataclass(frozen=True)
class BenchOptions:
    """`stepjax bench`: what a run's programs take, with random parameters. 0: as the workload of the shape has it."""

    shape: str = option(
        "1m",
        "model and workload: 1m, 30m, 0.5b (Qwen2.5-0.5B), or own (config.model and config.ppo as they are)",
        choices=("1m", "30m", "0.5b", "own"),
        resumable=True,
    )
    dtype: str = option("", "dtype of the computation; empty: float32", choices=("", *FLOATS), resumable=True)
    mean_length: int = option(
        0,
        "mean tokens of a response before the cut at new_tokens, lengths being geometric; 0: all have new_tokens",
        least=0,
        resumable=True,
    )
    rows: int = option(0, "responses a round", least=0, resumable=True)
    samples: int = option(0, "responses to each prompt", least=0, resumable=True)
    slots: int = option(0, "responses that decode at once", least=0, resumable=True)
    prompt_tokens: int = option(0, "tokens of each prompt", least=0, resumable=True)
    new_tokens: int = option(0, "tokens of the longest response", least=0, resumable=True)
    unroll: int = option(
        0, "layers in one turn of the layer loop; 0: all, with shape own as in config.model", least=0, resumable=True
    )
    prm: bool = option(False, "a process reward model of the same shape scores the steps", resumable=True)
    repeats: int = option(3, "timed runs after one that warms up; the figure is their median", least=1, resumable=True)

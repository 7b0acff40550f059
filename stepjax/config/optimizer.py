"""Optimisers."""

from dataclasses import dataclass

from stepjax.config.option import option


@dataclass(frozen=True)
class OptimizerOptions:
    """AdamW with a warm-up, a schedule and global-norm clipping."""

    lr: float = option(1e-3, "peak learning rate", least=0)
    warmup: int = option(20, "updates of linear warm-up", least=0)
    schedule: str = option(
        "cosine",
        "after the warm-up: constant, linear or cosine (down to `final` × lr)",
        choices=("constant", "linear", "cosine"),
    )
    final: float = option(0.1, "learning rate at the end of the schedule, as a fraction of the peak", least=0)
    weight_decay: float = option(0.0, "AdamW's decoupled weight decay", least=0)
    b1: float = option(0.9, "decay of the first moment", least=0, below=1)
    b2: float = option(0.95, "decay of the second moment", least=0, below=1)
    eps: float = option(1e-8, "AdamW's epsilon", above=0)
    clip: float = option(1.0, "global norm to which gradients are clipped", above=0)

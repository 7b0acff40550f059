"""`config.ppo.implicit`: the model φ whose log-ratio to the reference is the signal `implicit`."""

from dataclasses import dataclass

from stepjax.config.optimizer import OptimizerOptions
from stepjax.config.option import option, section


@dataclass(frozen=True)
class ImplicitOptions:
    """The implicit process reward model φ [PRIME 2502.01456], for streams with signal=implicit."""

    beta: float = option(0.05, "β: a token's reward is β · (log φ − log π_ref)", above=0)
    order: str = option(
        "before",
        "φ is trained on a round's outcomes before its rewards of the round are read, or after",
        choices=("before", "after"),
    )
    epochs: int = option(1, "passes over a round's responses", least=1)
    minibatches: int = option(4, "updates per pass", least=1)
    train_on: str = option(
        "all",
        "φ is trained on all responses that ended by themselves, or (informative) only on those to problems that some "
        "responses solve and others do not",
        choices=("all", "informative"),
    )
    normalise: bool = option(
        True,
        "divide a round's rewards by the largest absolute sum of rewards ahead of any of its tokens, so that no return "
        "is above 1",
    )
    optimizer: OptimizerOptions = section(
        OptimizerOptions, "optimiser of φ", lr=1e-3, warmup=5, schedule="constant", clip=10.0
    )

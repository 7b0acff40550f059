"""Stage sft."""

from dataclasses import dataclass

from stepjax.config.optimizer import OptimizerOptions
from stepjax.config.option import option, section


@dataclass(frozen=True)
class SFTOptions:
    """Supervised fine-tuning (or training from scratch) on the task's demonstrations."""

    updates: int = option(600, "optimiser updates", least=1)
    rows: int = option(64, "packed rows per update", least=1)
    row_tokens: int = option(128, "tokens per packed row; longer examples are left out and counted", least=1)
    prompt_loss: bool = option(False, "also train on the prompt's tokens")
    optimizer: OptimizerOptions = section(OptimizerOptions, "optimiser", lr=3e-3)
    log_every: int = option(20, "updates between two logged steps", least=1, resumable=True)
    checkpoint_every: int = option(200, "updates between two checkpoints", least=1, resumable=True)
    valid_rows: int = option(64, "packed rows of held-out demonstrations for `valid/loss`", least=0)

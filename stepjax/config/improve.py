"""Stage improve."""

from dataclasses import dataclass

from stepjax.config.optimizer import OptimizerOptions
from stepjax.config.option import option, section


@dataclass(frozen=True)
class ImproveOptions:
    """Expert iteration: `search` on fresh problems, supervised training on what it found, and again. Stage ppo does not
    start from its policy, but from that of stage sft."""

    rounds: int = option(3, "rounds; each is a search and the training on what it found", least=1, resumable=True)
    problems: int = option(
        512, "problems of the train split that a round searches, others in each round", least=1, below=2**16
    )
    targets: str = option(
        "best_right",
        "what is learned of a search: best_right (right responses, those whose steps are worth most) or visits (each "
        "step behind a visited prefix by its share of the visits, as AlphaZero; needs search.method=puct)",
        choices=("best_right", "visits"),
    )
    per_problem: int = option(4, "best_right: different right responses to a problem, at most", least=1)
    least_visits: int = option(8, "visits: prefixes with fewer visits behind them are not learned", least=1)
    kl: float = option(
        0.0,
        "weight of KL(policy ‖ policy before the first round), exact over the vocabulary, at tokens that are learned",
        least=0,
    )
    restart: bool = option(
        True,
        "each round trains the policy of before the first round, as ReST-EM does; False: that of the last round",
    )
    earlier: bool = option(False, "a round also learns what earlier rounds found")
    prm: bool = option(
        False,
        "after each round but the last, train the process reward model anew on the trees' values (prm.target=value), "
        "for the next round's search.prm=value; needs search.method=puct and prm.classes=2",
    )
    updates: int = option(200, "optimiser updates a round", least=1)
    rows: int = option(64, "packed rows per update", least=1)
    row_tokens: int = option(128, "tokens per packed row; longer examples are left out and counted", least=1)
    optimizer: OptimizerOptions = section(OptimizerOptions, "optimiser, begun anew in each round", lr=1e-3)
    log_every: int = option(20, "updates between two logged steps", least=1, resumable=True)
    checkpoint_every: int = option(100, "updates between two checkpoints", least=1, resumable=True)
    valid_problems: int = option(
        128, "problems of the valid split, answered once at each checkpoint for `valid/accuracy`; 0: none", least=0
    )

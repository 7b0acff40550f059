"""`stepjax search`."""

from dataclasses import dataclass

from stepjax.config.option import option
from stepjax.config.policies import NEWEST, POLICIES

PRM_SCORERS = ("learned", "value")
"""Choices of `prm` whose values are those of a process reward model."""


@dataclass(frozen=True)
class SearchOptions:
    """Search over steps: several responses to each problem, chosen and cut short by a scorer."""

    method: str = option(
        "best_of_n",
        "best_of_n (n whole responses), beam (n lines, of which n / width are kept after each step), dvts (n / width "
        "subtrees that keep one line each), puct (tree search) or sequential (n responses, each a revision of the one "
        "before: what comes before its lowest step stays)",
        choices=("best_of_n", "beam", "dvts", "puct", "sequential"),
        resumable=True,
    )
    prm: str = option(
        "learned",
        "what rates prefixes: learned (the process reward model of prm.path, or the run's own), value (the same, "
        "trained with prm.target=value), exact (the task's verifier and its answers: an oracle run, which says nothing "
        "of problems whose answer is not known), verifier (the task's verifier of steps alone: of gsm8k, whether "
        "calculations hold) or uniform (nothing: all are equal)",
        choices=("learned", "value", "exact", "verifier", "uniform"),
        resumable=True,
    )
    n: int = option(16, "responses, lines or revisions; not of puct", least=1, below=2**15, resumable=True)
    width: int = option(
        4,
        "beam, dvts: lines that a kept one becomes; puct: samples of the next step in a node",
        least=1,
        resumable=True,
    )
    sims: int = option(64, "puct: simulations for each problem", least=1, resumable=True)
    budget: int = option(
        0,
        "tokens that the policy may write for each problem, lookaheads included: nothing further is asked once they "
        "are spent; 0: as many as the method takes",
        least=0,
        resumable=True,
    )
    choose: str = option(
        "vote",
        "the answer: vote (the sum of the scores of its responses), majority (their number) or best (the highest "
        "score); responses that were cut off have no vote",
        choices=("vote", "majority", "best"),
        resumable=True,
    )
    aggregate: str = option(
        "min",
        "prm=learned: one score from those of all steps so far: min, product, last or mean",
        choices=("min", "product", "last", "mean"),
        resumable=True,
    )
    lookahead: int = option(
        0,
        "greedy steps that are taken before a prefix is rated, and thrown away; their tokens count",
        least=0,
        resumable=True,
    )
    explore: float = option(1.25, "puct: weight of the exploration term", least=0, resumable=True)
    backup: str = option(
        "mean",
        "puct: a node's value, the mean or max of the values found below it",
        choices=("mean", "max"),
        resumable=True,
    )
    prior: str = option(
        "counts",
        "puct: counts (a step's share of the samples) or likelihood (a softmax of the log-probabilities of the "
        "different steps, whose expectation is not the policy)",
        choices=("counts", "likelihood"),
        resumable=True,
    )
    widen: float = option(
        0.0,
        "puct: a node with N visits has at least widen · √N samples (progressive widening); 0: width",
        least=0,
        resumable=True,
    )
    workers: int = option(
        1, "puct: simulations of a problem at once, kept apart by virtual losses", least=1, resumable=True
    )
    stage: str = option(
        "",
        f"the stage whose policy searches; empty: {NEWEST}",
        choices=("", *POLICIES),
        resumable=True,
    )
    split: str = option("test", "the split of the problems", resumable=True)
    problems: int = option(128, "problems, from the split's first on; 0: all", least=0, below=2**16, resumable=True)
    temperature: float = option(1.0, "sampling temperature", least=0, resumable=True)
    max_new_tokens: int = option(0, "tokens of the longest response; 0: ppo.max_new_tokens", least=0, resumable=True)
    rows: int = option(64, "continuations sampled at once", least=1, resumable=True)
    seed: int = option(0, "seed of the search", least=0, below=2**31, resumable=True)
    out: str = option(
        "", "JSONL file of trees and answers; empty: search/METHOD-SPLIT.jsonl in the work directory", resumable=True
    )

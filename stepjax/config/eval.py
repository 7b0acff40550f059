"""`stepjax eval`."""

from dataclasses import dataclass

from stepjax.config.curves import CurveOptions
from stepjax.config.option import option
from stepjax.config.policies import POLICIES
from stepjax.config.suite import SuiteOptions


@dataclass(frozen=True)
class EvalOptions(SuiteOptions, CurveOptions):
    kind: str = option(
        "policies",
        "what to measure: policies (of each stage, on held-out problems), hacks (whether edits that add nothing to a "
        "solution raise its reward from the process reward model and from reward streams), labels (`data` against "
        "`gold`), prm (the process reward model against the true step ratings), processbench (its first errors, on "
        "`data`), prmbench (planted errors, on `data`), best_of_n (accuracy when the process reward model selects "
        "among N sampled responses), search (accuracy against cost of searches: methods × budgets × scorers) or suite "
        "(a policy on the benchmarks of `suite`)",
        choices=("policies", "hacks", "labels", "prm", "processbench", "prmbench", "best_of_n", "search", "suite"),
        resumable=True,
    )
    data: str = option(
        "",
        "labels, prm, processbench, prmbench: files of step-labelled solutions, separated by commas; prm, if empty: "
        "responses to the task's held-out problems",
        resumable=True,
    )
    source: str = option(
        "records",
        "format of `data` and `gold`: records (a folder that `stepjax data` wrote, or stepjax's own JSONL), "
        "processbench, prmbench, prm800k, math_shepherd, omegaprm or trl",
        choices=("records", "processbench", "prmbench", "prm800k", "math_shepherd", "omegaprm", "trl"),
        resumable=True,
    )
    data_split: str = option("train", "the split to read where `data` or `gold` is a folder", resumable=True)
    gold: str = option("", "labels: the file with the reference labels for `data`", resumable=True)
    stage: str = option("sft", "prm, best_of_n: the stage whose policy is sampled", choices=POLICIES, resumable=True)
    pool: int = option(64, "best_of_n: responses per problem, the largest N", least=1, resumable=True)
    resamples: int = option(400, "best_of_n: random subsets of the pool per N", least=1, resumable=True)
    threshold: float = option(0.5, "P(right) below which a step counts as wrong", least=0, resumable=True)
    tuning: float = option(
        0.3,
        "fraction of the problems on which a threshold is tuned; its figures are measured on the others",
        least=0,
        below=1,
        resumable=True,
    )
    bins: int = option(10, "bins of the calibration error and its diagram", least=1, resumable=True)
    problems: int = option(512, "held-out problems", least=1, resumable=True)
    split: str = option("test", "the split of these problems", resumable=True)
    temperature: float = option(1.0, "sampling temperature; 0: greedy", least=0, resumable=True)
    top_k: int = option(0, "as ppo.top_k, for the responses sampled here", least=0, resumable=True)
    top_p: float = option(1.0, "as ppo.top_p, for the responses sampled here", above=0, most=1, resumable=True)
    min_p: float = option(0.0, "as ppo.min_p, for the responses sampled here", least=0, most=1, resumable=True)
    min_new_tokens: int = option(0, "as ppo.min_new_tokens, for the responses sampled here", least=0, resumable=True)
    rows: int = option(128, "responses sampled at once", least=1, resumable=True)
    seed: int = option(0, "seed of the sampling; training has its own", least=0, below=2**31, resumable=True)

"""`stepjax eval`."""

from dataclasses import dataclass

from stepjax.config.option import option


@dataclass(frozen=True)
class EvalOptions:
    kind: str = option(
        "policies",
        "what is measured: policies (each stage's, on held-out problems), hacks (whether edits that add nothing to a "
        "solution raise what the process reward model and lists of reward streams pay for it), labels (`data` against "
        "`gold`), prm (the process reward model against step truth), processbench (its first errors, on `data`), "
        "prmbench (planted errors, on `data`) or best_of_n (what its choice among sampled responses is worth)",
        choices=("policies", "hacks", "labels", "prm", "processbench", "prmbench", "best_of_n"),
        resumable=True,
    )
    data: str = option(
        "",
        "labels, prm, processbench, prmbench: step-labelled solutions, one file or several with commas between; prm: "
        "empty for responses to the task's held-out problems",
        resumable=True,
    )
    source: str = option(
        "records",
        "format of `data` and `gold`: records (a folder that `stepjax data` wrote, or stepjax's own JSONL), "
        "processbench, prmbench, prm800k, math_shepherd, omegaprm or trl",
        choices=("records", "processbench", "prmbench", "prm800k", "math_shepherd", "omegaprm", "trl"),
        resumable=True,
    )
    data_split: str = option("train", "the split of a folder in `data` and `gold` that is read", resumable=True)
    gold: str = option("", "labels: the file with the labels that those of `data` are held against", resumable=True)
    stage: str = option(
        "sft", "prm, best_of_n: the stage whose policy is sampled", choices=("sft", "ppo"), resumable=True
    )
    pool: int = option(64, "best_of_n: responses a problem, the largest N", least=1, resumable=True)
    resamples: int = option(400, "best_of_n: random subsets of the pool for each N", least=1, resumable=True)
    threshold: float = option(0.5, "P(right) below which a step is taken for wrong", least=0, resumable=True)
    tuning: float = option(
        0.3,
        "share of the problems on which a threshold is tuned; its figures are for the others",
        least=0,
        below=1,
        resumable=True,
    )
    bins: int = option(10, "bins of the calibration error and its diagram", least=1, resumable=True)
    problems: int = option(512, "held-out problems", least=1, resumable=True)
    split: str = option("test", "the split that they come from", resumable=True)
    temperature: float = option(1.0, "sampling temperature; 0: greedy", least=0, resumable=True)
    top_k: int = option(0, "as ppo.top_k, where responses are measured", least=0, resumable=True)
    top_p: float = option(1.0, "as ppo.top_p, where responses are measured", above=0, most=1, resumable=True)
    min_p: float = option(0.0, "as ppo.min_p, where responses are measured", least=0, most=1, resumable=True)
    min_new_tokens: int = option(0, "as ppo.min_new_tokens, where responses are measured", least=0, resumable=True)
    rows: int = option(128, "responses sampled at once", least=1, resumable=True)
    seed: int = option(0, "seed of the sampling, apart from the training's", least=0, below=2**31, resumable=True)

"""`stepjax eval` on public benchmarks."""

from dataclasses import dataclass

from stepjax.config.option import option
from stepjax.config.policies import NEWEST, POLICIES


@dataclass(frozen=True)
class SuiteOptions:
    """The options of kind suite."""

    suite: str = option(
        "",
        "benchmarks, separated by commas: gsm8k, math500, aime24, aime25, amc23; NAME=SOURCE for one from anywhere "
        "that task.files.train names (but a list), or such a source alone; where this is given, `kind` is suite",
        resumable=True,
    )
    suite_data: str = option(
        "data",
        "suite: folder in which a benchmark is looked for (NAME.jsonl, NAME/test.jsonl, FOLDER/NAME.jsonl; .json and "
        ".parquet likewise) before it is taken from the hub",
        resumable=True,
    )
    suite_stage: str = option(
        "",
        f"suite: the stage whose policy is measured; empty: {NEWEST}",
        choices=("", *POLICIES),
        resumable=True,
    )
    suite_problems: int = option(
        0, "suite: problems of each benchmark, from its first on; 0: all", least=0, resumable=True
    )
    suite_samples: int = option(
        1, "suite: responses to each problem, the largest k of pass@k and maj@k", least=1, most=1000, resumable=True
    )
    suite_tokens: int = option(
        0,
        "suite: tokens of the longest response; 0: that of the benchmark (gsm8k 512, math500 2048, amc23 4096, aime24 "
        "and aime25 8192), for others ppo.max_new_tokens",
        least=0,
        resumable=True,
    )

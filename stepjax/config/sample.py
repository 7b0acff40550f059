"""`stepjax sample`."""

from dataclasses import dataclass

from stepjax.config.option import option
from stepjax.config.policies import NEWEST, POLICIES


@dataclass(frozen=True)
class SampleOptions:
    """Responses of a policy to a task's problems, written to a file."""

    stage: str = option(
        "",
        f"the stage whose policy is sampled; empty: {NEWEST}",
        choices=("", *POLICIES),
        resumable=True,
    )
    split: str = option("test", "the split of the problems", resumable=True)
    problems: int = option(0, "problems, from the split's first on; 0: all", least=0, resumable=True)
    samples: int = option(1, "responses to each problem", least=1, resumable=True)
    temperature: float = option(1.0, "sampling temperature; 0: greedy", least=0, resumable=True)
    top_k: int = option(0, "as ppo.top_k, for the responses sampled here", least=0, resumable=True)
    top_p: float = option(1.0, "as ppo.top_p, for the responses sampled here", above=0, most=1, resumable=True)
    min_p: float = option(0.0, "as ppo.min_p, for the responses sampled here", least=0, most=1, resumable=True)
    min_new_tokens: int = option(0, "as ppo.min_new_tokens, for the responses sampled here", least=0, resumable=True)
    max_new_tokens: int = option(0, "tokens of the longest response; 0: ppo.max_new_tokens", least=0, resumable=True)
    prm: bool = option(
        False, "score each step by the process reward model: that of prm.path, or the run's own", resumable=True
    )
    rows: int = option(32, "responses sampled at once", least=1, resumable=True)
    seed: int = option(0, "seed of the sampling", least=0, below=2**31, resumable=True)
    out: str = option("", "JSONL file; empty: samples/STAGE-SPLIT.jsonl in the work directory", resumable=True)

"""What the host judges of a round's responses, as arrays for the credit program."""

from collections.abc import Mapping, Sequence

import numpy as np

from stepjax.config import StreamOptions
from stepjax.rewards.hosted import by_token, make_judge
from stepjax.runs.responses import Response, limit_kept, ratings_by_token


class HostJudges:
    """The judges of a list of streams, made once: patterns compiled, functions imported."""

    def __init__(self, streams: Mapping[str, StreamOptions]):
        judges = {name: make_judge(name, options) for name, options in streams.items()}
        self.judges = {name: judge for name, judge in judges.items() if judge is not None}
        self.limits = any(options.signal == "limit" for options in streams.values())

    def __call__(self, responses: Sequence[Response], index: np.ndarray, end: np.ndarray) -> dict[str, np.ndarray]:
        """The host signals of `stepjax.rewards.signals` that these streams read.

        Args:
          responses: of the round (of several processes, this one's), read and judged by the task.
          index, end: int[B, T] and bool[B, T], the step of each token and the last token of each step.

        Raises:
          UserError: a user's function failed, or returned something else than its rewards.
        """
        found = {
            "rating": ratings_by_token(responses, index, end),
            "correct": np.array([r.correct for r in responses], bool),
        }
        if self.limits:
            found["limit_kept"] = np.array([limit_kept(r) for r in responses], np.float32)
        prompts, texts = [r.problem.prompt for r in responses], [r.text for r in responses]
        for name, judge in self.judges.items():
            # A process without a row asks nobody: a user's function need not know of empty lists.
            rewards = judge(prompts, texts, [r.steps for r in responses]) if responses else []
            found[f"stream/{name}"] = by_token(rewards, index, end)
        return found

"""Rewards that the host computes for a round's responses, as arrays for the credit program."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from stepjax.config import StreamOptions
from stepjax.rewards.by_token import by_token
from stepjax.rewards.reward_streams import host_figures, make_text_reward
from stepjax.rewards.signal import CORRECT, RATING
from stepjax.runs.responses import Response, exact_ratings, limit_kept

FIGURES: dict[str, Callable[[Response], float]] = {"limit_kept": limit_kept}
"""Figures of a response that some signals read (`Signal.host`), by name."""


class HostRewards:
    """The text rewards of a list of streams, made once: patterns compiled, functions imported."""

    def __init__(self, streams: Mapping[str, StreamOptions]):
        made = {name: make_text_reward(name, options) for name, options in streams.items()}
        self.text_rewards = {name: reward for name, reward in made.items() if reward is not None}
        self.figures = {name: FIGURES[name] for name in host_figures(streams)}

    def __call__(self, responses: Sequence[Response], index: np.ndarray, end: np.ndarray) -> dict[str, np.ndarray]:
        """The host signals of `stepjax.rewards.signal` that these streams read.

        Args:
          responses: of the round (of several processes, this one's), read and rated by the task.
          index, end: int[B, T] and bool[B, T], the step of each token and the last token of each step.

        Raises:
          UserError: a user's function failed, or returned something other than rewards.
        """
        found = {
            RATING: by_token(exact_ratings(responses), index, end),
            CORRECT: np.array([r.correct for r in responses], bool),
        }
        for name, figure in self.figures.items():
            found[name] = np.array([figure(r) for r in responses], np.float32)
        prompts, texts = [r.problem.prompt for r in responses], [r.text for r in responses]
        for name, reward in self.text_rewards.items():
            # A process without a row calls nothing: a user's function need not handle empty lists.
            rewards = reward(prompts, texts, [r.steps for r in responses]) if responses else []
            found[f"stream/{name}"] = by_token(rewards, index, end)
        return found

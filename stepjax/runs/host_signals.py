"""Rewards that the host computes for a round's responses, as arrays for the credit program."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from stepjax.config import StreamOptions
from stepjax.rewards.by_token import by_token
from stepjax.rewards.hosted import FunctionReward
from stepjax.rewards.later import JudgeReward, MonteCarloReward
from stepjax.rewards.reward_streams import host_figures, make_text_reward
from stepjax.rewards.signal import CORRECT, RATING
from stepjax.rewards.user_function import arguments
from stepjax.runs.responses import Response, exact_ratings, limit_kept
from stepjax.runs.step_judge import StepJudge
from stepjax.tasks.base import Problem

FIGURES: dict[str, Callable[[Response], float]] = {"limit_kept": limit_kept}
"""Figures of a response that some signals read (`Signal.host`), by name."""


KNOWN: dict[str, Callable[[Response], Any]] = {
    "prompts": lambda r: r.problem.prompt,
    "responses": lambda r: r.text,
    "steps": lambda r: list(r.steps),
    "problems": lambda r: r.problem.text,
    "answers": lambda r: r.problem.answer,
    "solutions": lambda r: r.problem.solution,
    "finished": lambda r: r.finished,
    "correct": lambda r: r.correct,
    "tokens": lambda r: list(r.tokens),
}
"""What a text reward may ask for by name, besides the columns of the problems' rows: a response's prompt, its text, the
texts of its steps; the problem alone, its right answer and its reference solution (None: it has none); whether it ended
by itself, whether its answer is right; its token ids."""

LOOKED_THROUGH = 1000
"""Problems whose columns are known before the first round."""


class HostRewards:
    """The text rewards of a list of streams, made once: patterns compiled, functions imported.

    Attributes:
      judge: who rates steps for the streams that a judge rates; None: there is none, or no such stream.
    """

    def __init__(
        self,
        streams: Mapping[str, StreamOptions],
        problems: Sequence[Problem] = (),
        judge: Callable[[], StepJudge] | None = None,
    ):
        """`judge` makes the judge, where a stream needs one.

        UserError where a user's function asks for what is neither known of a response nor a column of `problems`."""
        made = {name: make_text_reward(name, options) for name, options in streams.items()}
        self.text_rewards = {name: reward for name, reward in made.items() if reward is not None}
        functions = [reward for reward in self.text_rewards.values() if isinstance(reward, FunctionReward)]
        if problems and functions:  # a task may make each problem anew
            columns = columns_of([problems[i] for i in range(min(len(problems), LOOKED_THROUGH))])
            for function in functions:
                function.check([*columns, *KNOWN])
        judged = [reward for reward in self.text_rewards.values() if isinstance(reward, JudgeReward)]
        self.judge = judge() if judged and judge is not None else None
        for each in judged:
            each.judge = self.judge
        self.figures = {name: FIGURES[name] for name in host_figures(streams)}

    def begin(self, responses: Sequence[Response]) -> None:
        """Starts what takes long for these responses, and returns: the judge's questions."""
        if self.judge is not None:
            known = _known(responses)
            self.judge.ask(*(known[name] for name in ("problems", "answers", "steps")))

    def close(self) -> None:
        if self.judge is not None:
            self.judge.close()

    def __call__(
        self,
        responses: Sequence[Response],
        index: np.ndarray,
        end: np.ndarray,
        values: Sequence[np.ndarray] | None = None,
    ) -> dict[str, np.ndarray]:
        """The host signals of `stepjax.rewards.signal` that these streams read.

        Args:
          responses: of the round (of several processes, this one's), read and rated by the task.
          index, end: int[B, T] and bool[B, T], the step of each token and the last token of each step.
          values: of the steps of each response by completions, where a stream reads them.

        Raises:
          UserError: a user's function failed, or returned something other than rewards.
        """
        found = {
            RATING: by_token(exact_ratings(responses), index, end),
            CORRECT: np.array([r.correct for r in responses], bool),
        }
        if self.judge is not None:
            self.judge.next_round()
        for name, figure in self.figures.items():
            found[name] = np.array([figure(r) for r in responses], np.float32)
        for name, reward in self.text_rewards.items():
            rewards = []
            if isinstance(reward, MonteCarloReward):
                rewards = reward(values)
            elif responses:  # a process without a row calls nothing: a user's function need not handle empty lists
                args, named = arguments(reward, _known(responses), f"config.ppo.streams.{name}")
                rewards = reward(*args, **named)
            found[f"stream/{name}"] = by_token(rewards, index, end)
        return found


def columns_of(problems: Sequence[Problem]) -> list[str]:
    """Names of the columns that any of the problems has."""
    return list(dict.fromkeys(name for problem in problems for name in problem.columns))


def _known(responses: Sequence[Response]) -> dict[str, list[Any]]:
    """Everything that a text reward may ask for, fresh lists; a column that a row lacks is None there."""
    columns = columns_of([r.problem for r in responses])
    found: dict[str, list[Any]] = {name: [r.problem.columns.get(name) for r in responses] for name in columns}
    return found | {name: [of(r) for r in responses] for name, of in KNOWN.items()}

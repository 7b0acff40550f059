"""Which problems each rollout of a PPO run samples."""

from collections.abc import Sequence

import grain
import numpy as np

from stepjax.config import PPOOptions
from stepjax.console.progress import say
from stepjax.tasks.base import Problem
from stepjax.tasks.encoding import Prompts, fitting_prompts
from stepjax.tasks.prompts import Prompt


def sampled_prompts(options: PPOOptions, prompt: Prompt, problems: Sequence[Problem], spare: int) -> Prompts:
    """The prompts of the problems that a run may sample, those too long left out, which is said; `spare`: problems that
    are sampled beside a round's own."""
    limit = min(len(problems), options.iterations * options.prompts * (1 + options.refill) + spare)
    width = options.prompt_tokens
    found = fitting_prompts(prompt, problems[:limit], width=width, where="config.ppo.prompt_tokens")
    if found.left_out:
        say(f"PPO: {found.left_out} prompts longer than prompt_tokens={width} were left out")
    return found


class PromptOrder:
    """The problems of one rollout after the other: a shuffled pass over all of them, then the next pass.

    Attributes:
      prompts: of all problems.
      drawn: rollouts so far. A run that is continued begins with the number that its checkpoint holds.
    """

    def __init__(self, options: PPOOptions, prompts: Prompts, seed: int, drawn: int = 0):
        self.prompts, self.drawn, self._options = prompts, drawn, options
        self._order = grain.MapDataset.range(len(prompts.problems)).seed(seed + 2).shuffle().repeat()

    def problem(self, number: int) -> int:
        """The prompt of the n-th problem that the run samples."""
        return int(self._order[number])

    def next(self) -> tuple[int, np.ndarray]:
        """The number of the next rollout, from 1, and the prompt of each of its responses."""
        first, options = self.drawn * self._options.prompts, self._options
        self.drawn += 1
        chosen = np.repeat([self._order[first + i] for i in range(options.prompts)], options.samples)
        return self.drawn, chosen

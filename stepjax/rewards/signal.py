"""The row of a signal: how it is computed, where it pays, and what it needs."""

import dataclasses
from collections.abc import Callable, Mapping

from jaxtyping import Array, Float

from stepjax.config import StreamOptions
from stepjax.rewards.hosted import TextReward
from stepjax.rewards.places import Place
from stepjax.trajectory import Trajectory

HostSignals = Mapping[str, Array]
"""Signals that the host computes, by name:

  rating: float32[B, T], +1, 0, −1 of the task's exact verifier at step ends, 0 elsewhere.
  correct: bool[B], whether the graded answer is right.
  limit_kept: float32[B], +1 where a step limit stated in the prompt was kept, −1 where it was broken, 0 where there is
    none or a truncation left it open. Like every figure but the two above, only where a stream's signal asks for it.
  stream/NAME: float32[B, T], the rewards of the stream NAME at step ends, for signals that are rated from texts.
  text_reward: of these, the one of the stream whose signal reads it.
"""

RATING, CORRECT = "rating", "correct"
"""The figures that the host computes in every run."""


@dataclasses.dataclass(frozen=True)
class Signal:
    """A kind of reward. The registry `stepjax.rewards.signals.SIGNALS` has all of them by name.

    Attributes:
      rewards: the function: a scored trajectory, the host's signals and the stream's options → float32[B, T], 0 outside
        of `place`.
      place: the tokens that carry its scores, a score of 0 included. Only scores of steps can be shaped by comparing
        them; others can be bounded.
      response_place, token_place: the same for a stream with `per="response"` or "token"; None: the signal has no such
        scores.
      shapeable: False where no shaping makes sense, not even a bound.
      options: names of those stream options that only this signal (and others that name them too) reads. Set for
        another signal they are refused.
      needs: options that must be given → what is asked for, for people.
      check: of further options: raises UserError, whose text begins with the `where` it is given.
      host: names of the host's figures that it reads. "rating" needs a task with a verifier of steps, "limit_kept" a
        task that states step limits; one that is not a constant here is a row of `runs/host_signals.py`.
      text_reward: makes the function that rates texts on the host from a stream's options and the name of its section;
        `rewards` then reads `host["text_reward"]`.
      learned: it reads the process reward model.
      implicit: it reads the implicit reward, whose model a run then trains.
      environment: it reads the rewards of an environment over turns.
      penalty: it holds the policy back and rewards nothing that a task asks for.
    """

    rewards: Callable[[Trajectory, HostSignals, StreamOptions], Float[Array, "B T"]]
    place: Place
    response_place: Place | None = None
    token_place: Place | None = None
    shapeable: bool = True
    options: tuple[str, ...] = ()
    needs: Mapping[str, str] = dataclasses.field(default_factory=dict)
    check: Callable[[StreamOptions, str], None] | None = None
    host: tuple[str, ...] = ()
    text_reward: Callable[[StreamOptions, str], TextReward] | None = None
    learned: bool = False
    implicit: bool = False
    environment: bool = False
    penalty: bool = False

    def place_of(self, options: StreamOptions) -> Place:
        """Where a stream with these options carries its scores."""
        if "per" not in self.options:
            return self.place
        return {"response": self.response_place, "token": self.token_place}.get(options.per) or self.place

"""Rounds of PPO in which nothing is learned, and why: equal rewards, responses that are cut off, a gradient of 0."""

from collections.abc import Mapping
from typing import Any

from stepjax.config import PPOOptions
from stepjax.learners.ppo import make_streams
from stepjax.rewards.signals import SIGNALS
from stepjax.tasks.turns import FAILURES

MOST_CUT = 0.5
"""Share of responses cut off at the limit above which a round is warned of."""
AGAIN = (10, 100, 1000)
"""Rounds in a row after which a warning is repeated."""


class DeadRounds:
    """Warns of rounds that teach nothing: when the first of them comes, and again after ten, a hundred … in a row.

    The state depends only on the logged values: a resumed run feeds it the logged lines again.
    """

    def __init__(self, options: PPOOptions):
        self._options = options
        # A penalty such as the divergence from the reference may be 0 at the start, and is no reward for a task.
        self._streams = [name for name, stream in options.streams.items() if not SIGNALS[stream.signal].penalty]
        grouped = {s.name for s in make_streams(options.streams) if s.rule.baseline in ("others", "mean")}
        self._grouped = [name for name in self._streams if name in grouped] if options.samples > 1 else []
        self._since: dict[str, int] = {}

    def observe(self, line: Mapping[str, Any], step: int) -> list[str]:
        """Takes the figures of a round; returns a sentence for each warning."""
        now = self._reasons(line, step)
        self._since = {what: self._since.get(what, 0) + 1 for what in now}
        told = []
        for what, sentence in now.items():
            rounds = self._since[what]
            if rounds == 1:
                told.append(sentence)
            elif rounds in AGAIN:
                told.append(f"{sentence} ({rounds} rounds in a row)")
        return told

    def _reasons(self, line: Mapping[str, Any], step: int) -> dict[str, str]:
        options, found = self._options, dict[str, str]()
        responses = options.prompts * options.samples
        spread = [line.get(f"reward_std/{name}") for name in self._streams]
        flat = [line.get(f"reward_flat/{name}") for name in self._grouped]
        if spread and all(_close(x) for x in spread):
            earned = ", ".join(f"{name} {line.get(f'reward/{name}', 0.0):.3g}" for name in self._streams)
            found["rewards"] = (
                f"all {responses} responses earn the same ({earned}), so nothing tells good ones from bad; are the "
                "problems too hard or too easy, or the answers not read as they are written? (samples.jsonl)"
            )
        elif flat and len(self._grouped) == len(self._streams) and all(x == 1 for x in flat):
            found["groups"] = (
                "to every problem all responses earn the same, so no advantage is left; more ppo.samples, a higher "
                "ppo.temperature or ppo.refill help"
            )
        failed = {cause: line.get(f"environment/{cause}", 0.0) for cause in FAILURES}
        if sum(failed.values()) > MOST_CUT:
            shares = ", ".join(f"{cause} {100 * share:.0f} %" for cause, share in failed.items() if share)
            found["environment"] = (
                f"the environment failed {100 * sum(failed.values()):.0f} % of the responses ({shares}); see the "
                "message of the first of each kind above"
            )
        # Of an environment's responses only these have too few tokens.
        cut = line.get("environment/tokens", line.get("length/truncated", 0.0))
        if cut > MOST_CUT:
            found["cut"] = (
                f"{100 * cut:.0f} % of the responses are cut off at ppo.max_new_tokens={options.max_new_tokens}; raise "
                "it, or look at what they end with (samples.jsonl)"
            )
        if self._trains_policy(step) and line.get("grad_norm/policy") == 0:
            found["gradient"] = "the gradient of the policy is 0: this round changed nothing"
        return found

    def _trains_policy(self, step: int) -> bool:
        options = self._options
        refits = options.critic_refit and (step - 1) % options.critic_refit == 0
        return step > options.critic_warmup and not refits


def _close(spread: Any) -> bool:
    return isinstance(spread, int | float) and abs(spread) <= 1e-6

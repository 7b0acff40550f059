"""Monte Carlo values of step ends: fresh completions of the current policy from each [VinePPO 2410.01679].

All completions of a response share its keys and values: the response is read once, and each completion begins behind
the end of a step (`Queue.cut`), where reading every beginning for every completion would read it over and over.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stepjax.config import PPOOptions
from stepjax.config.ppo import MonteCarloOptions
from stepjax.models.definition import Params
from stepjax.parallel import batch_devices, fetch
from stepjax.rewards.later import MonteCarloReward
from stepjax.rewards.signals import SIGNALS
from stepjax.rollout.program import RolloutShape
from stepjax.runs.response_sampling import ResponseSampler, make_sampler
from stepjax.runs.responses import Response, grade_responses
from stepjax.runs.setup import Run
from stepjax.tasks.encoding import Prompts
from stepjax.trajectory import Trajectory

_IDS = 1 << 31


def reads_branches(options: PPOOptions) -> bool:
    """Whether a stream's rewards are values of step ends by completions."""
    return any(SIGNALS[stream.signal].text_reward is MonteCarloReward for stream in options.streams.values())


@dataclass(frozen=True)
class Branch:
    """The end of a step of response `row`: its first `length` tokens. Equal ones are completed once."""

    row: int
    length: int


class Branches:
    """Values of the step ends of a round's responses, by completions of the policy that sampled them.

    Attributes:
      rows: completions in one run of the program.
    """

    def __init__(self, run: Run, options: MonteCarloOptions):
        ppo, devices = run.config.ppo, batch_devices(run.mesh)
        self.run, self.options = run, options
        self._longest = ppo.max_new_tokens
        # Whole branches on every device: a device then has at most as many responses as it has branches.
        at_once = -(-options.rows // (devices * options.completions)) * devices * options.completions
        self.rows = 4 * at_once
        shape = RolloutShape(
            self.rows,
            ppo.prompt_tokens + ppo.max_new_tokens,
            ppo.max_new_tokens,
            samples=options.completions,
            slots=at_once,
            prefill_rows=max(at_once // options.completions, devices),
            halvings=ppo.halvings,
            branched=True,
        )
        self.sampler = ResponseSampler(run, shape, make_sampler(ppo))
        self._key = run.key("completions")

    def __call__(
        self, policy: Params, responses: Sequence[Response], number: int, mine: np.ndarray
    ) -> tuple[list[np.ndarray], dict[str, float]]:
        """float32[steps] of each response of the rows `mine`: the share of right completions behind each step. Also
        figures of the cost.

        The last step of a response that ended by itself has its outcome, one that a truncation cut off 0. Of several
        processes all must call it, with the responses of all. `number`: the round, which the random keys depend on.
        """
        places = [self._ends(r) for r in responses]
        branches: dict[tuple[int, ...], Branch] = {}
        for row, (response, ends) in enumerate(zip(responses, places, strict=True)):
            for length in ends[:-1]:
                branches.setdefault(_named(response, length), Branch(row, length))
        found = dict(zip(branches, self._complete(policy, responses, list(branches.values()), number), strict=True))
        values = [
            np.array([found[_named(r, n)][0] for n in ends[:-1]] + [float(r.correct)] * bool(ends), np.float32)
            for r, ends in ((responses[row], places[row]) for row in mine.tolist())
        ]
        tokens = float(sum(sampled for _, sampled in found.values()))
        return values, {"mc/branches": float(len(branches)), "mc/tokens": tokens, **self._read(responses, branches)}

    def _ends(self, response: Response) -> list[int]:
        """The number of tokens up to the end of each step."""
        index, end = self.run.splitter.split_host(response.tokens)
        ends = (np.flatnonzero(end) + 1).tolist()
        # A step without a token of its own has the value of the one that it lies in.
        if not ends:
            return []
        at = np.minimum(np.searchsorted(index[end], np.arange(len(response.steps))), len(ends) - 1)
        return [ends[i] for i in at.tolist()]

    def _complete(
        self, policy: Params, responses: Sequence[Response], branches: Sequence[Branch], number: int
    ) -> list[tuple[float, int]]:
        """Of each branch the share of right completions, and the tokens that were sampled for it."""
        each, found = self.options.completions, []
        # Those of a response lie together, so that it is read once for all of them.
        for first in range(0, len(branches), self.rows // each):
            chosen = branches[first : first + self.rows // each]
            asked = sorted({branch.row for branch in chosen})
            prompts = Prompts(
                [responses[row].problem for row in asked],
                [[*responses[row].prompt, *responses[row].tokens] for row in asked],
                0,
            )
            place = {row: i for i, row in enumerate(asked)}
            lengths = np.array([len(responses[b.row].tokens) for b in chosen])
            kept = np.array([b.length for b in chosen])
            first_ids = [_number(responses[b.row], b.length, number) for b in chosen]
            ids = (np.repeat(first_ids, each) + np.tile(np.arange(each), len(chosen))) % _IDS
            trajectory = self.sampler(
                policy,
                prompts,
                np.repeat([place[b.row] for b in chosen], each),
                self._key,
                ids,
                np.repeat(np.maximum(self._longest - kept, 1), each),
                np.repeat(lengths - kept, each),
            )
            found += self._graded(responses, chosen, trajectory)
        return found

    def _graded(
        self, responses: Sequence[Response], chosen: Sequence[Branch], trajectory: Trajectory
    ) -> list[tuple[float, int]]:
        each, width = self.options.completions, trajectory.prompt_width
        tokens, lengths, finished = fetch((trajectory.tokens, trajectory.response_length, trajectory.finished))
        rows = [branch for branch in chosen for _ in range(each)]
        written = [tokens[i, width : width + lengths[i]].tolist() for i in range(len(rows))]
        texts = [
            self.run.framing.text([*responses[b.row].tokens[: b.length], *more])
            for b, more in zip(rows, written, strict=True)
        ]
        # Behind a step that took all of the tokens there are, one is sampled that does not count.
        ended = [bool(finished[i]) and b.length + lengths[i] <= self._longest for i, b in enumerate(rows)]
        right = grade_responses(self.run.task, [responses[b.row].problem for b in rows], texts)
        correct = np.array([e and r for e, r in zip(ended, right, strict=True)], float).reshape(-1, each)
        sampled = lengths[: len(rows)].reshape(-1, each).sum(axis=1)
        return list(zip(correct.mean(axis=1).tolist(), sampled.tolist(), strict=True))

    def _read(self, responses: Sequence[Response], branches: dict[tuple[int, ...], Branch]) -> dict[str, float]:
        """Tokens read again before completions could begin, as a share of those that every completion alone would."""
        naive = sum(len(responses[b.row].prompt) + b.length for b in branches.values()) * self.options.completions
        per_run, runs = self.rows // self.options.completions, list(branches.values())
        read = 0
        for first in range(0, len(runs), per_run):
            rows = {b.row for b in runs[first : first + per_run]}
            read += sum(len(responses[row].prompt) + len(responses[row].tokens) for row in rows)
        return {"mc/read": read / naive} if naive else {}


def _named(response: Response, length: int) -> tuple[int, ...]:
    return (*response.prompt, -1, *response.tokens[:length])


def _number(response: Response, length: int, number: int) -> int:
    """A number below 2³¹ from the tokens and the round, the same on every machine."""
    text = f"{number}|{','.join(map(str, _named(response, length)))}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") % _IDS

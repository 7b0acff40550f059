"""Completions by a stage's policy: any number of prefixes and completions through one compiled rollout."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stepjax.data.tokenizers import load_tokenizer
from stepjax.labels.solution import Completion, Prefix, Request
from stepjax.parallel import batch_devices, fetch, key_on, only_asked_transfers
from stepjax.rollout.program import RolloutShape
from stepjax.rollout.sampling import Sampler
from stepjax.runs.response_sampling import ResponseSampler
from stepjax.runs.responses import grade_responses
from stepjax.runs.setup import Run
from stepjax.tasks.encoding import Prompts

_IDS = 1 << 31


class Completer:
    """Samples completions; called with requests, as `stepjax.labels.solution.Complete`.

    A completion's random key comes from the seed, the prefix's tokens and the completion's number: it does not depend
    on the other rows of its batch, nor on interruptions.

    Attributes:
      rows: completions that decode together; `at_once`: completions per run of the program.
      sampled: tokens sampled so far.
    """

    def __init__(self, run: Run, params: Any, *, rows: int, temperature: float, seed: int):
        ppo, devices = run.config.ppo, batch_devices(run.mesh)
        self.run, self.params = run, params
        self.longest = ppo.max_new_tokens
        self.rows = -(-rows // devices) * devices
        width = ppo.prompt_tokens + ppo.max_new_tokens
        shape = RolloutShape.of_many(4 * self.rows, self.rows, width, ppo.max_new_tokens, devices)
        self._sampler = ResponseSampler.of_shape(run, shape, Sampler(temperature))
        self.at_once = self._sampler.shape.rows
        self._key = key_on(run.mesh, seed, 21)
        self.sampled = 0

    def __call__(self, requests: Sequence[Request]) -> list[list[Completion]]:
        """Completions of requests, in order; those longer than `ppo.max_new_tokens` in total count as truncated.

        Prefixes of similar length share a rollout, and each of them is prefilled once for all of its completions there.
        """
        rows = [(i, request.first + j) for i, request in enumerate(requests) for j in range(request.count)]
        rows.sort(key=lambda row: len(requests[row[0]].prefix.tokens))
        numbers = [number_of(request.prefix) for request in requests]
        sampled: list[tuple[tuple[int, ...], bool]] = []
        for at in range(0, len(rows), self.at_once):
            chosen = rows[at : at + self.at_once]
            ids = np.array([(numbers[i] + j) % _IDS for i, j in chosen], np.int64)
            asked = list(dict.fromkeys(i for i, _ in chosen))
            place = {i: at for at, i in enumerate(asked)}
            sampled += self.rollout([requests[i].prefix for i in asked], [place[i] for i, _ in chosen], ids)
        run, problems, texts, ended = self.run, [], [], []
        for (i, _), (tokens, finished) in zip(rows, sampled, strict=True):
            prefix = requests[i].prefix
            problems.append(prefix.problem)
            texts.append(run.framing.text([*prefix.tokens, *tokens]))
            ended.append(finished and len(prefix.tokens) + len(tokens) <= self.longest)
        right = grade_responses(run.task, problems, texts)
        found: list[dict[int, Completion]] = [{} for _ in requests]
        for (i, j), (tokens, _), end, correct in zip(rows, sampled, ended, right, strict=True):
            found[i][j] = Completion(tokens, end, end and bool(correct))
        return [
            [of_one[request.first + j] for j in range(request.count)]
            for request, of_one in zip(requests, found, strict=True)
        ]

    def rollout(
        self, prefixes: Sequence[Prefix], rows: Sequence[int], ids: np.ndarray
    ) -> list[tuple[tuple[int, ...], bool]]:
        """Tokens of a completion of prefix `rows[i]` for each i (`at_once` at most), and whether it ended by itself."""
        prompts = Prompts([p.problem for p in prefixes], [[*p.prompt, *p.tokens] for p in prefixes], 0)
        limits = np.array([max(self.longest - len(prefixes[row].tokens), 1) for row in rows])
        with only_asked_transfers():
            trajectory = self._sampler(self.params, prompts, rows, self._key, ids, limits)
            found, lengths, finished = fetch((trajectory.tokens, trajectory.response_length, trajectory.finished))
        width = trajectory.prompt_width
        self.sampled += int(lengths[: len(rows)].sum())
        return [(tuple(found[i, width : width + lengths[i]].tolist()), bool(finished[i])) for i in range(len(rows))]


def number_of(prefix: Prefix) -> int:
    """A number below 2³¹ from the prefix's tokens, the same on every machine."""
    text = ",".join(map(str, prefix.prompt)) + "|" + ",".join(map(str, prefix.tokens))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") % _IDS


def same_tokenizer(run: Run, folder: Path) -> bool:
    """Whether a work directory's tokenizer gives the same ids as this run's."""
    return load_tokenizer(folder / "tokenizer").get_vocab() == run.tokenizer.get_vocab()

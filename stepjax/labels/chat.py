"""A policy of a run as the judge's model."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepjax.judges.judge import Reply
from stepjax.judges.protocol import cut_off
from stepjax.parallel import batch_devices, fetch, key_on, only_asked_transfers
from stepjax.rollout.program import RolloutShape
from stepjax.rollout.sampling import Sampler
from stepjax.runs.response_sampling import ResponseSampler
from stepjax.runs.setup import Run
from stepjax.tasks.base import Problem
from stepjax.tasks.encoding import Prompts


class PolicyChat:
    """Replies to questions in batches of one compiled size, by the tokenizer's chat template where it has one.

    Attributes:
      rows: questions at once.
      cut: number of questions that were too long and were refused.
    """

    def __init__(self, run: Run, params: Any):
        options, devices = run.config.label, batch_devices(run.mesh)
        self.run, self.params = run, params
        rows = -(-min(options.rows, 32) // devices) * devices
        self.width = options.judge.prompt_tokens
        shape = RolloutShape(rows, self.width, options.judge.answer_tokens)
        self._sampler = ResponseSampler.of_shape(run, shape, Sampler(options.judge.temperature))
        self.rows = self._sampler.shape.rows
        self._key = key_on(run.mesh, options.seed, 22)
        self._asked = self.cut = 0

    def __call__(self, questions: Sequence[str]) -> list[Reply]:
        ids = [self._encode(question) for question in questions]
        fits = [i for i, tokens in enumerate(ids) if 0 < len(tokens) <= self.width]
        self.cut += len(ids) - len(fits)
        long = f"the question is longer than {self.width} tokens (config.label.judge.prompt_tokens)"
        found = [Reply("", refused=long)] * len(ids)
        for first in range(0, len(fits), self.rows):
            chosen = fits[first : first + self.rows]
            for i, reply in zip(chosen, self._batch([ids[i] for i in chosen]), strict=True):
                found[i] = reply
        return found

    def _encode(self, question: str) -> list[int]:
        framing = self.run.framing
        if getattr(framing.tokenizer, "chat_template", None):
            return framing.chat([{"role": "user", "content": question}])
        return framing.prompt(question + "\n")

    def _batch(self, ids: list[list[int]]) -> list[Reply]:
        prompts = Prompts([Problem("", "", "")] * len(ids), ids, 0)
        numbers = self._asked + np.arange(len(ids))
        self._asked += self.rows
        with only_asked_transfers():
            trajectory = self._sampler(self.params, prompts, range(len(ids)), self._key, numbers)
            fields = (trajectory.tokens, trajectory.response_length, trajectory.finished)
            tokens, lengths, finished = fetch(fields)
        width = trajectory.prompt_width
        written = [tokens[i, width : width + lengths[i]].tolist() for i in range(len(ids))]
        texts = [self.run.framing.text(row) for row in written]
        fault = cut_off(self.run.config.label.judge.answer_tokens)
        return [
            Reply(t, len(p), len(w)) if ended else Reply(t, len(p), len(w), fault=fault, cut=True)
            for t, p, w, ended in zip(texts, ids, written, finished[: len(ids)], strict=True)
        ]

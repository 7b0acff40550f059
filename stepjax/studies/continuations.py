"""Values of prefixes by sampling: how often the policy comes to the right answer from the end of each step."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from stepjax.console.progress import progress
from stepjax.parallel import batch_devices
from stepjax.rollout.generate import RolloutShape
from stepjax.rollout.sampling import Sampler
from stepjax.runs.response_sampling import ResponseSampler
from stepjax.runs.responses import Response
from stepjax.runs.setup import Run
from stepjax.tasks.encoding import Prompts


def prefix_values(
    run: Run, params: Any, responses: Sequence[Response], key: jax.Array, *, completions: int, label: str = "Values"
) -> list[np.ndarray]:
    """float[S] a response: the share of `completions` from the end of each step that end in the right answer.

    After the last step of a finished response nothing is left to sample: its value is 1 or 0. A last step that was cut
    off is completed from where it stands.
    """
    starts: list[tuple[int, int]] = []  # (response, step) that has to be completed
    prompts = Prompts([], [], 0)
    found = [np.zeros(len(r.steps)) for r in responses]
    for i, response in enumerate(responses):
        index, _ = run.splitter.split_host(response.tokens)
        for k in range(len(response.steps)):
            if response.finished and k == len(response.steps) - 1:
                found[i][k] = float(response.correct)
                continue
            starts.append((i, k))
            prompts.problems.append(response.problem)
            prompts.tokens.append([*response.prompt, *np.asarray(response.tokens)[np.asarray(index) <= k].tolist()])
    options = run.config
    width = -(-max(map(len, prompts.tokens), default=8) // 8) * 8
    total, at_once = len(starts) * completions, options.eval.rows
    shape = RolloutShape.of_many(total, at_once, width, options.ppo.max_new_tokens, batch_devices(run.mesh))
    sampler = ResponseSampler(run, shape, Sampler(1.0))
    rows = [i for i in range(len(starts)) for _ in range(completions)]
    with progress(label, len(rows), "completions") as bar:
        completed = sampler.many(params, prompts, rows, key, bar)
    for row, completion in zip(rows, completed, strict=True):
        i, k = starts[row]
        prefix = prompts.tokens[row][len(responses[i].prompt) :]
        text = run.tokenizer.decode([*prefix, *completion.tokens], skip_special_tokens=True)
        found[i][k] += (completion.finished and run.task.grade(responses[i].problem, text)) / completions
    return found


def count_completions(responses: Sequence[Response], completions: int) -> int:
    """How many completions `prefix_values` samples."""
    return completions * sum(len(r.steps) - (r.finished and bool(r.steps)) for r in responses)

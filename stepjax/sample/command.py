"""`stepjax sample`: responses of any policy to a task's problems, appended to a file that a later call continues."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from stepjax.config import Config
from stepjax.console.progress import progress, say
from stepjax.distributed.session import session
from stepjax.errors import UserError
from stepjax.evaluation.scorer import StepScorer, make_scorer
from stepjax.models.definition import Params
from stepjax.parallel import batch_devices, fetch, is_main_process, key_on, only_asked_transfers
from stepjax.rollout.program import RolloutShape
from stepjax.rollout.sampling import Sampler
from stepjax.runs.first_prompt import tell_first_prompt
from stepjax.runs.opening import open_run
from stepjax.runs.origin_parts import READING
from stepjax.runs.response_sampling import ResponseSampler
from stepjax.runs.responses import read_responses
from stepjax.runs.setup import Run
from stepjax.runs.stages import has_stage, newest_policy, no_stage, policy_params, policy_step
from stepjax.runs.weights import weights_of
from stepjax.sample.records import Sampled, sampled_record
from stepjax.tasks.base import Problem
from stepjax.tasks.encoding import Prompts, fitting_prompts
from stepjax.workdir.record_file import WEIGHTS, RecordFile

MADE_WITH = ("problems", "samples", "split", "temperature", "top_k", "top_p", "min_p", "min_new_tokens", "prm", "seed")
"""Options that the responses depend on."""


class SampleFile(RecordFile):
    command = "sample"


@dataclass(frozen=True)
class Sampling:
    """One call of the command: the policy, its prompts, and how it is sampled."""

    run: Run
    stage: str
    prompts: Prompts
    sampler: ResponseSampler
    params: Params
    key: jax.Array

    def batches(self, done: set[str]) -> Iterator[list[int]]:
        """Numbers of the responses that are not there yet, in batches; response n is number n % samples of its
        problem's, and n names its random key, so that what is sampled does not depend on what was there."""
        each = self.run.config.sample.samples
        waiting = [n for n in range(len(self.prompts.problems) * each) if self.name(n) not in done]
        size = self.sampler.shape.rows
        return (waiting[first : first + size] for first in range(0, len(waiting), size))

    def name(self, number: int) -> str:
        problem, sample = divmod(number, self.run.config.sample.samples)
        return f"{self.prompts.problems[problem].id}/{sample}"

    def sample(self, numbers: Sequence[int]) -> list[Sampled]:
        """The responses of these numbers, at most `sampler.shape.rows`, graded."""
        rows = [n // self.run.config.sample.samples for n in numbers]
        trajectory = self.sampler(self.params, self.prompts, rows, self.key, np.array(numbers, np.int32))
        padding = self.sampler.shape.rows - len(rows)
        problems = [self.prompts.problems[row] for row in [*rows, *[rows[-1]] * padding]]
        responses = read_responses(self.run, problems, trajectory)[: len(rows)]
        logprobs, width = fetch(trajectory.logprobs), trajectory.prompt_width
        return [
            Sampled(self.name(n), r, logprobs[i, width : width + len(r.tokens)].astype(float).tolist())
            for i, (n, r) in enumerate(zip(numbers, responses, strict=True))
        ]


def run_sample(config: Config, workdir: Path, *, accept_changed: bool = False) -> Path:
    """Samples by `config.sample`, says how many responses are right, and returns the file.

    `accept_changed`: as in `open_run`.
    """
    opened = open_run(config, workdir, kinds=READING, accept_changed=accept_changed)
    with session(config.distributed), opened as run:
        tell_first_prompt(run)
        return sample(run)


def sample(run: Run) -> Path:
    options = run.config.sample
    problems = run.task.problems(options.split)
    count = min(options.problems or len(problems), len(problems))
    sampling = sampling_of(run, [problems[i] for i in range(count)])
    scorer = make_scorer(run) if options.prm else None
    out = Path(options.out) if options.out else run.workdir / "samples" / f"{sampling.stage}-{options.split}.jsonl"
    made_with = {name: getattr(options, name) for name in MADE_WITH} | {
        "policy": f"{sampling.stage} {policy_step(run, sampling.stage) or run.config.model.path}",
        "workdir": str(run.workdir.absolute()),
        WEIGHTS: weights_of(run, sampling.stage, *(["prm"] if options.prm and not run.config.prm.path else [])),
        "max_new_tokens": sampling.sampler.shape.new_tokens,
        "prompt": dataclasses.asdict(run.config.prompt),
    }
    with SampleFile(out, made_with, primary=is_main_process()) as file:
        total, right, cut = len(sampling.prompts.problems) * options.samples, 0, 0
        start = len(file.done)
        with progress("Responses", total, "responses", start=start) as bar, only_asked_transfers():
            for numbers in sampling.batches(file.done):
                found = sampling.sample(numbers)
                file.append(
                    sampled_record(run, s, scores) for s, scores in zip(found, _scored(scorer, found), strict=True)
                )
                right += sum(s.response.correct for s in found)
                cut += sum(not s.response.finished for s in found)
                bar.advance(len(found))
        if (new := total - start) > 0:
            say(f"{new} responses: {right / new:.1%} right, {cut / new:.1%} cut off at the limit")
        else:
            say(f"all {total} responses are there already")
    return out


def _scored(scorer: StepScorer | None, found: Sequence[Sampled]) -> Sequence[Any]:
    if scorer is None:
        return [None] * len(found)
    return scorer.score_responses([s.response for s in found])


def sampling_of(run: Run, problems: Sequence[Problem]) -> Sampling:
    """How `config.sample` samples responses to these problems. UserError where the policy or the options lack."""
    options, ppo = run.config.sample, run.config.ppo
    if options.samples > 1 and options.temperature == 0:
        raise UserError("config.sample.temperature: at 0 all responses to a problem are the same; raise it")
    stage = options.stage or newest_policy(run)
    if not has_stage(run, stage):
        raise no_stage(run, stage)
    prompts = fitting_prompts(run.prompt, problems, width=2**31, where="config.sample")
    longest = options.max_new_tokens or ppo.max_new_tokens
    if options.min_new_tokens >= longest:
        raise UserError(f"config.sample.min_new_tokens: must be below max_new_tokens={longest}")
    count, devices = len(problems) * options.samples, batch_devices(run.mesh)
    shape = RolloutShape.of_many(count, options.rows, prompts.width, longest, devices)
    how = Sampler(options.temperature, options.top_k, options.top_p, options.min_p, options.min_new_tokens)
    key = key_on(run.mesh, options.seed, 30)
    return Sampling(run, stage, prompts, ResponseSampler.of_shape(run, shape, how), policy_params(run, stage), key)

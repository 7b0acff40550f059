"""Responses of a policy to a benchmark: what it reads, how long it may write, and sampling into a file."""

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np

from stepjax.config import POLICIES, PromptOptions
from stepjax.console.progress import progress, say
from stepjax.errors import UserError
from stepjax.evaluation.suite_file import SuiteFile
from stepjax.models.definition import Params
from stepjax.parallel import batch_devices, key_on, only_asked_transfers
from stepjax.rollout.program import RolloutShape
from stepjax.runs.response_records import record_of
from stepjax.runs.response_sampling import ResponseSampler, make_sampler
from stepjax.runs.responses import read_responses
from stepjax.runs.setup import Run
from stepjax.runs.stages import has_stage, newest_policy, no_stage, policy_params, policy_step, stage_folder
from stepjax.steps import StepSplitter
from stepjax.tasks.benchmarks import INSTRUCTION, BenchmarkProblems, Member
from stepjax.tasks.encoding import Prompts
from stepjax.tasks.graders import GradesFinalAnswers, make_grader
from stepjax.tasks.hooks import PLAIN, Templated
from stepjax.tasks.tagged import step_separator


@dataclass(frozen=True)
class Policy:
    """What is measured.

    Attributes:
      name: of its stage and step, or of the checkpoint of `model.path`.
      version: when it was written, so that another one of this name is told from it.
    """

    stage: str
    params: Params
    name: str
    version: int


def policy_of(run: Run) -> Policy:
    """The policy of `eval.suite_stage`. UserError where there is none."""
    stage = run.config.eval.suite_stage or newest_policy(run)
    if not has_stage(run, stage):
        raise no_stage(run, stage)
    step = policy_step(run, stage)
    if step is None:
        assert run.start is not None
        name, folders = run.config.model.path, run.start.paths
    else:
        name, folders = f"{stage} {step}", (stage_folder(run, stage) / str(step),)
    files = [file for folder in folders for file in (folder, *folder.rglob("*"))]
    return Policy(stage, policy_params(run, stage), name, max(file.stat().st_mtime_ns for file in files))


PARAGRAPHS = "\n\n"
"""What separates the steps of a chat model that was not trained here."""


def is_trained(run: Run) -> bool:
    """Whether a stage was trained here, or in the run's base."""
    return any(policy_step(run, stage) is not None for stage in POLICIES)


def as_sampled(run: Run) -> Run:
    """The run with the prompts and steps of its responses.

    A policy that was trained here reads benchmarks as it read its own problems. A chat model of `model.path` that was
    not, and for which no prompt is given, is asked to mark its answer, and its steps are paragraphs.
    """
    if is_trained(run):
        return run
    separator = step_separator(run.config, PARAGRAPHS)
    run = dataclasses.replace(run, splitter=StepSplitter(run.tokenizer, separator, run.framing.ends))
    if run.config.prompt != PromptOptions() or not run.prompt.chat:
        return run
    say(f"added to each problem: {INSTRUCTION!r}; config.prompt.user takes another prompt")
    prompt = PromptOptions(user=f"{{problem}}\n\n{INSTRUCTION}")
    return dataclasses.replace(run, config=dataclasses.replace(run.config, prompt=prompt))


def benchmark_of(run: Run, member: Member) -> BenchmarkProblems:
    task, trained = run.task, is_trained(run)
    return BenchmarkProblems(
        member,
        template=task.template if isinstance(task, Templated) and trained else PLAIN,
        separator=run.config.task.separator or (task.separator if trained else PARAGRAPHS),
        grader=task.grader if isinstance(task, GradesFinalAnswers) else make_grader(run.config.task),
    )


def sample_into(
    run: Run, file: SuiteFile, policy: Policy, prompts: Prompts, names: Sequence[str], longest: int, label: str
) -> None:
    """Samples the responses that the file lacks; the number of a response among `names` is that of its random key."""
    waiting = [n for n, name in enumerate(names) if name not in file.done]
    if not waiting:
        return
    options, each = run.config.eval, len(names) // len(prompts.problems)
    shape = RolloutShape.of_many(len(names), options.rows, prompts.width, longest, batch_devices(run.mesh))
    sampler = ResponseSampler.of_shape(run, shape, make_sampler(options))
    key: jax.Array = key_on(run.mesh, options.seed, 31)
    size = sampler.shape.rows
    with progress(label, len(names), "responses", len(names) - len(waiting)) as bar, only_asked_transfers():
        for first in range(0, len(waiting), size):
            numbers = waiting[first : first + size]
            rows = [n // each for n in numbers]
            trajectory = sampler(policy.params, prompts, rows, key, np.array(numbers, np.int32))
            problems = [prompts.problems[row] for row in [*rows, *[rows[-1]] * (size - len(rows))]]
            responses = read_responses(run, problems, trajectory)[: len(numbers)]
            file.append(
                record_of(run, r, names[n], stage=policy.stage, text=r.text, prompt=r.problem.prompt)
                for n, r in zip(numbers, responses, strict=True)
            )
            bar.advance(len(numbers), right=sum(a.correct for a in file.answered.values()) / len(file.answered))


def longest_response(run: Run, member: Member, prompts: Prompts) -> tuple[int, list[str]]:
    """Tokens of the longest response, at most what the checkpoint has positions for, and what is to be said of it."""
    asked = run.config.eval.suite_tokens or member.tokens or run.config.ppo.max_new_tokens
    positions = None if run.start is None else run.start.config.get("max_position_embeddings")
    left = positions - prompts.width if isinstance(positions, int) else asked
    if left < 1:
        raise UserError(f"config.eval.suite: {member.name} has prompts longer than the model's {positions} positions")
    if asked > left:
        return left, [f"responses of at most {left} tokens: the model has {positions} positions"]
    return asked, []


def digest(prompts: Prompts) -> str:
    """Tells these prompts, in their order, from others."""
    digest = hashlib.sha256()
    for problem, tokens in zip(prompts.problems, prompts.tokens, strict=True):
        digest.update(f"{problem.id} {problem.answer} {tokens}\n".encode())
    return digest.hexdigest()

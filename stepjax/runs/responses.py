"""Responses on the host: sampling them in batches of one compiled size, reading their steps, rating them exactly."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from stepjax.config import EvalOptions, PPOOptions
from stepjax.host_rows import HostRows
from stepjax.parallel import batch_devices, batch_sharding, put
from stepjax.programs import Program
from stepjax.rollout.environment import HostTool
from stepjax.rollout.generate import RolloutShape, on_device, rollout_program
from stepjax.rollout.record import Occupancy
from stepjax.rollout.sampling import Sampler
from stepjax.rollout.slots import Queue
from stepjax.runs.setup import Run
from stepjax.tasks.base import Problem, StepRating, Task
from stepjax.tasks.encoding import Prompts
from stepjax.tasks.gsm8k import trivial_calculations
from stepjax.tasks.hooks import GradesMany
from stepjax.tasks.registry import make_environment
from stepjax.trajectory import Trajectory


@dataclass(frozen=True)
class Response:
    """One sampled response and what is exactly known of it.

    Attributes:
      prompt, tokens: ids; `tokens` holds the end-of-text token where the response ended by itself.
      text: the response as text.
      steps: the text of each step.
      finished: False where it was truncated.
      correct: whether its final answer is right.
      step_ratings: one a step, or None where the task has no step verifier.
    """

    problem: Problem
    prompt: Sequence[int]
    tokens: Sequence[int]
    text: str
    steps: list[str]
    finished: bool
    correct: bool
    step_ratings: list[StepRating] | None


class ResponseSampler:
    """The rollout program of one size, fed with problems and random keys.

    Attributes:
      occupancy: how well the last call used its slots, on the device; None before the first call.
    """

    def __init__(self, run: Run, shape: RolloutShape, sampler: Sampler):
        self.run = run
        self.shape = shape
        self.program: Program = rollout_program(
            run.policy,
            run.mesh,
            shape,
            eos=run.ends,
            sampler=sampler,
            tool=environment_tool(run),
            gather=run.config.mesh.gather_to_decode,
        )
        self.occupancy: Occupancy | None = None

    def __call__(
        self,
        params: Any,
        prompts: Prompts,
        rows: Sequence[int] | np.ndarray,
        key: jax.Array,
        ids: np.ndarray,
        limits: np.ndarray | None = None,
    ) -> Trajectory:
        """A response to each of prompts `rows`, `shape.rows` at most, on the device; the trajectory's other rows are
        empty. `ids` name the random keys; `limits`: the longest of each response, where it is not `shape.new_tokens`.
        """
        inputs = request(prompts, rows, ids, limits, self.shape, batch_devices(self.run.mesh))
        tokens, lengths, queue = put(inputs, batch_sharding(self.run.mesh))
        trajectory, self.occupancy = self.program(params, tokens, lengths, key, queue)
        return trajectory

    def many(
        self, params: Any, prompts: Prompts, rows: Sequence[int], key: jax.Array, bar: Any = None
    ) -> list[Response]:
        """A rated response to each of any number of prompts, in batches; row i uses random key i."""
        found: list[Response] = []
        size = self.shape.rows
        for first in range(0, len(rows), size):
            chosen = list(rows[first : first + size])
            trajectory = self(params, prompts, chosen, key, np.arange(first, first + len(chosen)))
            problems = [prompts.problems[r] for r in chosen + [chosen[-1]] * (size - len(chosen))]
            found += read_responses(self.run, problems, trajectory)[: len(chosen)]
            if bar is not None:
                bar.advance(len(chosen))
        return found


def request(
    prompts: Prompts,
    rows: Sequence[int] | np.ndarray,
    ids: np.ndarray,
    limits: np.ndarray | None,
    shape: RolloutShape,
    devices: int,
) -> tuple[np.ndarray, np.ndarray, Queue]:
    """What the rollout program is asked: each device's prompts once, short ones first, and the rows to sample."""
    each, count = on_device(shape, devices), len(rows)
    if count > shape.rows:
        raise ValueError(f"{count} rows, but the rollout is compiled for {shape.rows}")
    tokens = np.zeros((devices * each.prompts, shape.prompt_width), np.int32)
    lengths = np.zeros(devices * each.prompts, np.int32)
    place_of, numbers, longest = (np.zeros(shape.rows, np.int32) for _ in range(3))
    numbers[:count] = ids
    longest[:count] = shape.new_tokens if limits is None else limits
    for device in range(devices):
        own = slice(device * each.rows, min((device + 1) * each.rows, count))
        different = sorted(set(np.asarray(rows[own]).tolist()), key=lambda r: (len(prompts.tokens[r]), r))
        if not different:
            continue
        at = device * each.prompts + np.arange(len(different))
        tokens[at], lengths[at] = prompts.batch(different, shape.prompt_width)
        place = {row: i for i, row in enumerate(different)}
        place_of[own] = [place[row] for row in np.asarray(rows[own]).tolist()]
    queue = Queue(place_of, numbers, longest)  # type: ignore[arg-type]
    return tokens, lengths, queue


def ppo_sampler(options: PPOOptions) -> Sampler:
    """How responses are drawn in training."""
    return Sampler(options.temperature, options.top_k, options.top_p, options.min_p, options.min_new_tokens)


def eval_sampler(options: EvalOptions) -> Sampler:
    """How responses are drawn to be measured."""
    return Sampler(options.temperature, options.top_k, options.top_p, options.min_p, options.min_new_tokens)


def environment_tool(run: Run) -> HostTool | None:
    """The environment that the config names, in tokens."""
    options = run.config.ppo
    if not options.environment:
        return None
    environment = make_environment(options.environment)
    return HostTool(environment, run.tokenizer, run.splitter.token_bytes, options.reply_tokens)


def read_responses(run: Run, problems: Sequence[Problem], trajectory: Trajectory) -> list[Response]:
    """Fetches a trajectory's tokens and rates every row exactly; of several processes each rates its own rows."""
    hosts = HostRows(run.mesh, len(problems))
    return share_responses(hosts, problems, read_own_responses(run, hosts, problems, trajectory))


def share_responses(hosts: HostRows, problems: Sequence[Problem], own: Sequence[Response]) -> list[Response]:
    """The responses of all rows, from what each process knows of its own ones."""
    if jax.process_count() == 1:
        return list(own)
    rows = [
        (
            *(r.prompt, r.tokens, r.text, r.steps, r.finished, r.correct),
            None if r.step_ratings is None else [(j.rating, j.correct, j.kind) for j in r.step_ratings],
        )
        for r in own
    ]
    shared = hosts.exchange(rows)
    return [
        Response(
            problem=problem,
            prompt=prompt,
            tokens=tokens,
            text=text,
            steps=steps,
            finished=finished,
            correct=correct,
            step_ratings=None if rated is None else [StepRating(*j) for j in rated],
        )
        for problem, (prompt, tokens, text, steps, finished, correct, rated) in zip(problems, shared, strict=True)
    ]


def read_own_responses(
    run: Run, hosts: HostRows, problems: Sequence[Problem], trajectory: Trajectory
) -> list[Response]:
    """This process's rows of a trajectory, read and rated; `problems` are those of all rows."""
    fields = (trajectory.tokens, trajectory.prompt_length, trajectory.response_length, trajectory.finished)
    tokens, prompt_length, response_length, finished = hosts.local(fields)
    problems = [problems[int(row)] for row in hosts.mine]
    width = trajectory.prompt_width
    ids = [tokens[i, width : width + response_length[i]].tolist() for i in range(len(problems))]
    prompts = [tokens[i, width - prompt_length[i] : width].tolist() for i in range(len(problems))]
    texts = [run.tokenizer.decode(row, skip_special_tokens=True) for row in ids]
    right = grade_responses(run.task, problems, texts)
    return [
        _response(run, *row)
        for row in zip(problems, prompts, ids, texts, [bool(f) for f in finished[: len(ids)]], right, strict=True)
    ]


def grade_responses(task: Task, problems: Sequence[Problem], texts: Sequence[str]) -> list[bool]:
    """Whether each response's final answer is right; in one batch where the task can."""
    if isinstance(task, GradesMany):
        return list(task.grade_many(problems, texts))
    return [task.grade(problem, text) for problem, text in zip(problems, texts, strict=True)]


def read_response(run: Run, problem: Problem, prompt: Sequence[int], ids: Sequence[int], finished: bool) -> Response:
    """One response in tokens, read and rated."""
    text = run.tokenizer.decode(ids, skip_special_tokens=True)
    return _response(run, problem, prompt, ids, text, finished, finished and run.task.grade(problem, text))


def _response(
    run: Run,
    problem: Problem,
    prompt: Sequence[int],
    ids: Sequence[int],
    text: str,
    finished: bool,
    right: bool,
) -> Response:
    steps = run.splitter.texts(ids)
    return Response(
        problem=problem,
        prompt=prompt,
        tokens=ids,
        text=text,
        steps=steps,
        finished=finished,
        correct=finished and right,
        step_ratings=run.task.rate_steps(problem, steps),
    )


def ratings_by_token(responses: Sequence[Response], index: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The exact rating of each step at its last token, float32[B, T]; 0 elsewhere and where there is no verifier."""
    ratings = np.zeros(index.shape, np.float32)
    for i, response in enumerate(responses):
        if response.step_ratings:
            at = np.flatnonzero(end[i])
            known = np.array([j.rating for j in response.step_ratings], np.float32)
            ratings[i, at] = known[np.minimum(index[i, at], len(known) - 1)]
    return ratings


def limit_kept(response: Response) -> int:
    """+1 where the prompt's step limit was kept, −1 where it was broken, 0 where there is none or it is still open."""
    limit = response.problem.step_limit
    if limit is None:
        return 0
    if len(response.steps) > limit:
        return -1
    return 1 if response.finished else 0


def measure(responses: Sequence[Response]) -> dict[str, float]:
    """Exact figures of a set of responses: accuracy, trace error, step shares, lengths.

    trace_error is the share of right-answered responses with a wrong step [Uesato 2022]; holds the share of steps with
    a calculation whose calculation holds, calculation the share of steps that have one, trivial the share of calculator
    notes that work nothing out, limit_kept the share of stated step limits that were kept, a truncation never.
    """
    n = max(len(responses), 1)
    steps = [j for r in responses for j in r.step_ratings or []]
    figures = {"accuracy": sum(r.correct for r in responses) / n}
    right = [r for r in responses if r.correct and r.step_ratings]
    right = [r for r in right if all(j.correct is not None for j in r.step_ratings or [])]
    if steps and all(j.correct is not None for j in steps):
        wrong = sum(any(not j.correct for j in r.step_ratings or []) for r in right)
        figures["trace_error"] = wrong / max(len(right), 1)
    if steps:
        for name, rating in (("good", 1), ("neutral", 0), ("bad", -1)):
            figures[name] = sum(j.rating == rating for j in steps) / len(steps)
        calculations = [j for j in steps if j.kind == "calculation"]
        if calculations:
            figures["holds"] = sum(j.rating > 0 for j in calculations) / len(calculations)
            figures["calculation"] = len(calculations) / len(steps)
            notes = [trivial_calculations(step) for r in responses for step in r.steps]
            figures["trivial"] = sum(trivial for trivial, _ in notes) / max(sum(total for _, total in notes), 1)
    limited = [r for r in responses if r.problem.step_limit is not None]
    if limited:
        figures["limit_kept"] = sum(limit_kept(r) > 0 for r in limited) / len(limited)
    figures["steps"] = sum(len(r.steps) for r in responses) / n
    figures["tokens"] = sum(len(r.tokens) for r in responses) / n
    figures["truncated"] = sum(not r.finished for r in responses) / n
    figures["repeated"] = sum(_repeats(r.steps) for r in responses) / max(sum(len(r.steps) for r in responses), 1)
    return figures


def _repeats(steps: Sequence[str]) -> int:
    """Steps that stood before in the same response, word for word."""
    return sum(count - 1 for count in Counter(s.strip() for s in steps).values())

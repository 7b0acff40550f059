"""Responses on the host: reading the steps of a trajectory's rows, and rating them exactly."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np

from stepjax.host_rows import HostRows
from stepjax.runs.setup import Run
from stepjax.tasks.base import Problem, StepRating, Task
from stepjax.tasks.hooks import GradesMany
from stepjax.tasks.turns import CAUSES
from stepjax.trajectory import Trajectory


@dataclass(frozen=True)
class TurnsTaken:
    """What an environment over turns made of a response.

    Attributes:
      cause: why it ended, of `stepjax.tasks.turns.CAUSES`.
      rewards: of the turns that it answered.
      replies: numbers of the steps in which every token is the environment's.
    """

    cause: str
    rewards: list[float]
    replies: list[int]


@dataclass(frozen=True)
class Response:
    """One sampled response with its exact ratings.

    Attributes:
      prompt, tokens: ids; `tokens` holds the end-of-text token where the response ended by itself.
      text: the response as text.
      steps: the text of each step.
      finished: False where it was truncated.
      correct: whether its final answer is right.
      step_ratings: one per step, or None where the task has no step verifier.
      turns: what an environment over turns made of it, None where there is none.
    """

    problem: Problem
    prompt: Sequence[int]
    tokens: Sequence[int]
    text: str
    steps: list[str]
    finished: bool
    correct: bool
    step_ratings: list[StepRating] | None
    turns: TurnsTaken | None = None

    @property
    def own_steps(self) -> list[str]:
        """The steps without an environment's replies: what the policy is judged by."""
        replies = () if self.turns is None else self.turns.replies
        return [step for number, step in enumerate(self.steps) if number not in replies]


def read_responses(run: Run, problems: Sequence[Problem], trajectory: Trajectory) -> list[Response]:
    """Fetches a trajectory's tokens and rates every row exactly; of several processes each rates its own rows."""
    hosts = HostRows(run.mesh, len(problems))
    return share_responses(hosts, problems, read_own_responses(run, hosts, problems, trajectory))


def share_responses(hosts: HostRows, problems: Sequence[Problem], own: Sequence[Response]) -> list[Response]:
    """The responses of all rows, gathered from the processes that read them."""
    if jax.process_count() == 1:
        return list(own)
    rows = [
        (
            *(r.prompt, r.tokens, r.text, r.steps, r.finished, r.correct),
            None if r.step_ratings is None else [(j.rating, j.correct, j.kind) for j in r.step_ratings],
            None if r.turns is None else (r.turns.cause, r.turns.rewards, r.turns.replies),
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
            turns=None if turns is None else TurnsTaken(*turns),
        )
        for problem, (prompt, tokens, text, steps, finished, correct, rated, turns) in zip(
            problems, shared, strict=True
        )
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
    texts = [run.framing.text(row) for row in ids]
    right = grade_responses(run.task, problems, texts)
    turns = _turns_taken(run, hosts, trajectory, ids) if trajectory.turns is not None else [None] * len(ids)
    return [
        _response(run, *row)
        for row in zip(
            problems, prompts, ids, texts, [bool(f) for f in finished[: len(ids)]], right, turns, strict=True
        )
    ]


def _turns_taken(
    run: Run, hosts: HostRows, trajectory: Trajectory, ids: Sequence[Sequence[int]]
) -> list[TurnsTaken | None]:
    """`ids`: the tokens of this process's responses."""
    turns, width = trajectory.turns, trajectory.prompt_width
    assert turns is not None
    rewards, rated, cause, written = hosts.local((turns.rewards, turns.rated, turns.cause, trajectory.env_tokens))
    return [
        TurnsTaken(CAUSES[cause[i]], rewards[i][rated[i]].tolist(), _replies(run, row, written[i, width:][: len(row)]))
        for i, row in enumerate(ids)
    ]


def _replies(run: Run, ids: Sequence[int], written: np.ndarray) -> list[int]:
    step = run.splitter.split_host(ids)[0]
    return np.setdiff1d(step[written], step[~written]).tolist()


def grade_responses(task: Task, problems: Sequence[Problem], texts: Sequence[str]) -> list[bool]:
    """Whether each response's final answer is right; in one batch where the task can."""
    if isinstance(task, GradesMany):
        return list(task.grade_many(problems, texts))
    return [task.grade(problem, text) for problem, text in zip(problems, texts, strict=True)]


def read_response(run: Run, problem: Problem, prompt: Sequence[int], ids: Sequence[int], finished: bool) -> Response:
    """One response in tokens, read and rated."""
    text = run.framing.text(ids)
    return _response(run, problem, prompt, ids, text, finished, finished and run.task.grade(problem, text))


def _response(
    run: Run,
    problem: Problem,
    prompt: Sequence[int],
    ids: Sequence[int],
    text: str,
    finished: bool,
    right: bool,
    turns: TurnsTaken | None = None,
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
        turns=turns,
    )


def exact_ratings(responses: Sequence[Response]) -> list[np.ndarray | None]:
    """The exact rating of each step, float32[S], of each response; None where there is none."""
    return [
        np.array([rated.rating for rated in r.step_ratings], np.float32) if r.step_ratings else None for r in responses
    ]


def limit_kept(response: Response) -> int:
    """+1 where the prompt's step limit was kept, −1 where it was broken, 0 where there is none or it is still open."""
    limit = response.problem.step_limit
    if limit is None:
        return 0
    if len(response.steps) > limit:
        return -1
    return 1 if response.finished else 0

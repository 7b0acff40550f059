"""Training labels of a response for a process reward model: its steps with the classes of their exact ratings."""

import dataclasses

import numpy as np

from stepjax.data.packing import Example
from stepjax.errors import UserError
from stepjax.runs.responses import Response
from stepjax.runs.setup import Run
from stepjax.tasks.encoding import labelled_steps


def labelled_example(run: Run, response: Response, *, every_token: bool = False) -> Example:
    """The response's steps with the classes of their exact ratings; a step cut off by truncation has no label.

    The label stands on a step's last token, or on `every_token` of it.
    """
    target, step_ratings = run.config.prm.target, response.step_ratings
    unknown = step_ratings is None or (target == "prefix" and any(j.correct is None for j in step_ratings))
    if unknown and target != "value":
        raise UserError(
            f"task {run.task.name}: it has no step verifier that could label steps; "
            "config.prm.target=value needs only graded answers"
        )
    ends, classes = labels_of_steps(run, response)
    example = labelled_steps(response.prompt, response.tokens, ends, classes)
    return _on_every_token(run, response, example) if every_token else example


def _on_every_token(run: Run, response: Response, example: Example) -> Example:
    """Each label on all tokens of its step; the value of a prompt is the response's, read at its last token."""
    targets, first = example.targets.copy(), len(response.prompt)
    index, _ = run.splitter.split_host(response.tokens)
    for at in np.flatnonzero(example.targets >= 0):
        targets[first:][index == index[at - first]] = example.targets[at]
    if run.config.prm.target == "value":
        targets[first - 1] = 2 * response.correct
    return dataclasses.replace(example, targets=targets)


def labels_of_steps(run: Run, response: Response) -> tuple[np.ndarray, list[int]]:
    """Which response tokens end a rated step (bool[n]), and those steps' classes (0 bad, 1 neutral, 2 good).

    What the classes mean is set by `config.prm.target`: the step's own rating; whether all steps up to it are right; or
    whether the response that it belongs to ends in the right answer, whose probability is the prefix's value under the
    policy.
    """
    index, end = run.splitter.split_host(response.tokens)
    step_ratings = response.step_ratings or []
    if not response.finished and len(end):
        end[-1] = False
    if run.config.prm.target == "value":
        return end, [2 * response.correct] * int(end.sum())
    if not step_ratings:
        end[:] = False
    classes = [j.rating + 1 for j in step_ratings]
    if run.config.prm.target == "prefix":
        classes = [2 * int(right) for right in np.cumprod([bool(j.correct) for j in step_ratings])]
    return end, [classes[min(i, len(classes) - 1)] for i in index[end]]

"""`stepjax sample --problem=TEXT`: a policy's responses to a problem of the user's, step by step."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stepjax.config import Config
from stepjax.console.progress import progress, say
from stepjax.distributed.session import session
from stepjax.evaluation.scorer import make_scorer, p_right
from stepjax.parallel import only_asked_transfers
from stepjax.runs.first_prompt import tell_first_prompt
from stepjax.runs.opening import open_run
from stepjax.runs.origin_parts import READING
from stepjax.runs.responses import Response
from stepjax.runs.setup import Run
from stepjax.runs.stages import has_stage
from stepjax.sample.command import sampling_of
from stepjax.sample.shown import Shown, shown_lines


def sample_one(config: Config, workdir: Path, problem: str, answer: str = "", *, accept_changed: bool = False) -> None:
    """Samples `config.sample.samples` responses to a problem and prints each step with the process reward model's
    P(right), where there is one, and the exact rating, where the task has one. Nothing is written.

    Args:
      problem: the problem's bare text.
      answer: its right answer; "": it is not known, and nothing is graded.

    Raises:
      UserError: as in `stepjax sample`.
    """
    opened = open_run(config, workdir, kinds=READING, accept_changed=accept_changed)
    with session(config.distributed), opened as run:
        tell_first_prompt(run)
        sampling = sampling_of(run, [run.prompt.problem_of(problem, "problem", answer)])
        found: list[Response] = []
        with progress("Responses", config.sample.samples, "responses") as bar, only_asked_transfers():
            for numbers in sampling.batches(set()):
                found += [sampled.response for sampled in sampling.sample(numbers)]
                bar.advance(len(numbers))
        say(f"stage {sampling.stage}")
        for response, scores in zip(found, _scores(run, found), strict=True):
            for line in shown_lines(_shown(response, scores, graded=bool(answer))):
                say(line)


def _scores(run: Run, responses: Sequence[Response]) -> Sequence[np.ndarray | None]:
    """The scores of the process reward model that the options name, or of the run's own; None where there is none."""
    if not (run.config.prm.path or has_stage(run, "prm")):
        return [None] * len(responses)
    return make_scorer(run).score_responses(responses)


def _shown(response: Response, scores: np.ndarray | None, *, graded: bool) -> Shown:
    ratings = [rated.rating for rated in response.step_ratings or []]
    return Shown(
        name="",
        problem="",
        answer=response.problem.answer,
        steps=response.steps,
        correct=response.correct if graded else None,
        finished=response.finished,
        ratings=ratings or [None] * len(response.steps),
        prm=[None] * len(response.steps) if scores is None else [float(p) for p in p_right(scores)],
    )

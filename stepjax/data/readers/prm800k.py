"""PRM800K's rows, phases 1 and 2 [Lightman 2023]: the labelled solution, and each completion off its path.

At every step some completions were rated; one was chosen (or a human wrote the step) and the labelling continued
from there. So a completion that was not chosen has a label after the chosen steps before it and nowhere else: it
becomes a record of its own, those steps and it. In phase 2 the labelling ends at the first error of a solution given
beforehand; the step that is in error has no chosen completion, but belongs to that solution.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from stepjax.data.readers.base import Context, Found, RowError, entries, is_answer, text, whole
from stepjax.data.schema import LabelledSolution, first_error_of

REASONS = ("screening", "quality_control", "give_up", "bad_problem", "found_error", "solution", "flagged")
_FINISHED = ("found_error", "solution", "bad_problem", "give_up")
_ANSWER = re.compile(r"(?:^|\n)# Answer\s*\n+(.*)", re.DOTALL)


class _Step(NamedTuple):
    text: str
    rating: int | None
    human: bool = False
    flagged: bool = False


class _Choice(NamedTuple):
    """One step of the labelling: what was rated, which of it was chosen, what a human wrote."""

    rated: list[_Step]
    chosen: int | None
    human: _Step | None


def read(row: Mapping[str, Any], context: Context) -> Iterator[Found]:
    question, label = row.get("question"), row.get("label")
    if not isinstance(question, Mapping) or not isinstance(label, Mapping):
        raise RowError("fields 'question' and 'label' must be objects")
    problem, finished = text(question, "problem"), label.get("finish_reason")
    if finished not in _FINISHED:
        raise RowError(f"field 'finish_reason' must be one of {', '.join(_FINISHED)}, not {finished!r:.40}")
    choices = [_choice(step, i, context) for i, step in enumerate(entries(label, "steps"))]
    given = question.get("pre_generated_steps")
    if given is not None and not (isinstance(given, list) and all(isinstance(step, str) for step in given)):
        raise RowError("field 'pre_generated_steps' must be a list of texts or null")
    flags = {
        "screening": bool(row.get("is_initial_screening_question")),
        "quality_control": bool(row.get("is_quality_control_question")),
    }
    for reason in (finished, *(name for name, set_ in flags.items() if set_)):
        if reason in context.options.leave_out:
            context.tally.dropped[f"rows left out: {reason}"] += 1
            return
    answer = question.get("ground_truth_answer")
    if not isinstance(answer, str | None):
        raise RowError(f"field 'ground_truth_answer' must be text or null, not {type(answer).__name__}")
    answer = answer or ""
    row_id = f"{row.get('labeler', '')}/{row.get('timestamp', '')}"
    generation = row.get("generation")
    common = {"finish_reason": finished, "phase": 1 if given is None else 2} | {k: True for k, v in flags.items() if v}

    def record(steps: list[_Step], name: str, path: str) -> LabelledSolution:
        ratings = tuple(step.rating for step in steps)
        marks = {
            mark: found
            for mark in ("human", "flagged")
            if (found := [i for i, step in enumerate(steps) if getattr(step, mark)])
        }
        ending = _ANSWER.search(steps[-1].text)
        return LabelledSolution(
            problem,
            tuple(step.text for step in steps),
            ratings=ratings,
            first_error=first_error_of(ratings),
            answer=answer,
            correct=is_answer(ending[1], answer) if ending and answer else None,
            source="prm800k",
            place=context.place,
            id=row_id + name,
            labeller=str(row.get("labeler", "")),
            generation=None if generation is None else whole(generation, "generation"),
            extra={**common, "path": path, **marks} | ({} if ending else {"unfinished": True}),
        )

    path, others, stopped = _walk(choices, given, context)
    if path:
        yield Found(record(path, "", "chosen"))
    else:
        context.tally.noted["rows without a step on the chosen path"] += 1
    for before, number, step in others:
        if not context.options.alternatives:
            context.tally.dropped["alternative completions (alternatives=False)"] += 1
        else:
            steps = [*path[:before], step]
            yield Found(record(steps, f"#{before}.{number}", "alternative"), shared=before)
    if stopped:
        context.tally.dropped["completions after the end of the chosen path"] += stopped


def _choice(step: Any, i: int, context: Context) -> _Choice:
    if not isinstance(step, Mapping):
        raise RowError(f"field 'steps': entry {i} must be an object")
    completions = step.get("completions")
    if completions is None:
        context.tally.noted["steps whose completions are null"] += 1
        completions = []
    if not isinstance(completions, list):
        raise RowError(f"step {i}: 'completions' must be a list or null")
    rated = [_rated(c, i) for c in completions]
    chosen, human = step.get("chosen_completion"), step.get("human_completion")
    if chosen is not None and not 0 <= whole(chosen, "chosen_completion") < len(rated):
        raise RowError(f"step {i}: 'chosen_completion' is {chosen}, but there are {len(rated)} completions")
    return _Choice(rated, chosen, None if human is None else _rated(human, i, human=True))


def _rated(completion: Any, i: int, *, human: bool = False) -> _Step:
    if not isinstance(completion, Mapping):
        raise RowError(f"step {i}: a completion must be an object with 'text' and 'rating'")
    rating = completion.get("rating")
    if rating is not None and (not isinstance(rating, int) or isinstance(rating, bool) or not -1 <= rating <= 1):
        raise RowError(f"step {i}: 'rating' must be -1, 0, 1 or null, not {rating!r:.40}")
    return _Step(text(completion, "text"), rating, human, bool(completion.get("flagged")))


def _walk(
    choices: list[_Choice], given: list[str] | None, context: Context
) -> tuple[list[_Step], list[tuple[int, int, _Step]], int]:
    """The chosen path, the completions off it (steps before, number, completion), and how many lie after its end."""
    tally, options = context.tally, context.options
    path: list[_Step] = []
    others: list[tuple[int, int, _Step]] = []
    after, ended = 0, False
    for at, (rated, chosen, human) in enumerate(choices):
        if ended:
            after += len(rated) + (human is not None)
            continue
        taken = chosen
        if taken is None and human is None and given is not None and at < len(given):
            # Phase 2's last step: the completion that the solution given beforehand goes on with.
            taken = next((n for n, step in enumerate(rated) if step.text == given[at]), None)
        for number, step in enumerate(rated):
            if number == taken:
                continue
            if step.flagged and "flagged" in options.leave_out:
                tally.dropped["completions left out: flagged"] += 1
            else:
                others.append((at, number, step))
        following = rated[taken] if taken is not None else human
        if chosen is not None and human is not None:
            tally.dropped["human completions beside a chosen one"] += 1
        if following is None:
            ended = True
        elif following.flagged and "flagged" in options.leave_out:
            tally.dropped["completions left out: flagged"] += 1
            ended = True
        elif following.human and options.human == "cut":
            tally.dropped["human completions (human=cut)"] += 1
            ended = True
        else:
            if following.human and following.rating is None and options.human == "good":
                following = following._replace(rating=1)
                tally.noted["human completions taken as good"] += 1
            path.append(following)
            ended = chosen is None and human is None
    return path, others, after

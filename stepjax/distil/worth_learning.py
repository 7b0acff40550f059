"""Which responses are worth learning from: right ones, well rated, each once, not too many of a problem."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stepjax.config import ExportOptions
from stepjax.data.schema import LabelledSolution
from stepjax.errors import UserError


@dataclass(frozen=True)
class ChosenResponses:
    """The responses that were chosen, in their order, and how many were left out, by reason.

    Attributes:
      read: all that were read.
    """

    read: list[LabelledSolution]
    chosen: list[LabelledSolution]
    left_out: Counter[str]


def worth_learning(records: Iterable[LabelledSolution], options: ExportOptions) -> ChosenResponses:
    """The responses that `options` let through.

    Of a problem's responses that pass the other filters, those with the highest least score are taken; of equal ones,
    the first.

    Raises:
      UserError: there are no responses, or a filter needs scores or grades that one lacks.
    """
    read, left_out = list(records), Counter[str]()
    if not read:
        raise UserError("config.export.responses: there are no responses there")
    passing: list[tuple[int, float]] = []
    seen: set[tuple[str, str]] = set()
    for number, record in enumerate(read):
        reason = _refusal(record, options)
        if not reason and options.distinct:
            same = (record.group_key, canonical(record.steps))
            reason = "repeated" if same in seen else ""
            seen.add(same)
        if reason:
            left_out[reason] += 1
        else:
            passing.append((number, least_score(record, options)))
    taken: Counter[str] = Counter()
    chosen = []
    for number, _ in sorted(passing, key=lambda found: (-found[1], found[0])):
        taken[read[number].group_key] += 1
        if options.per_problem and taken[read[number].group_key] > options.per_problem:
            left_out[f"more than {options.per_problem} of their problem"] += 1
        else:
            chosen.append(number)
    return ChosenResponses(read, [read[number] for number in sorted(chosen)], left_out)


def canonical(steps: Sequence[str]) -> str:
    """The same text for responses that differ in white space alone."""
    return "\n".join(" ".join(step.split()) for step in steps if step.strip())


def exact_ratings(record: LabelledSolution) -> list[int] | None:
    """The task's rating of each step; None where it has none."""
    found = record.extra.get("step_ratings")
    return found if isinstance(found, list) and len(found) == len(record.steps) else None


def scores_of(record: LabelledSolution) -> list[float | None] | None:
    """P(right) of each step by the process reward model; None where it was not asked, of a step or of all."""
    found = record.extra.get("prm")
    known = isinstance(found, list) and len(found) == len(record.steps) and any(s is not None for s in found)
    return found if known else None


def wrong_tries(record: LabelledSolution, options: ExportOptions) -> list[int]:
    """The steps that are wrong, by number: by their exact ratings or, without them, by scores below `least_score`."""
    if (ratings := exact_ratings(record)) is not None:
        return [k for k, rating in enumerate(ratings) if rating == -1]
    return [k for k, score in enumerate(scores_of(record) or ()) if score is not None and score < options.least_score]


def least_score(record: LabelledSolution, options: ExportOptions) -> float:
    """The least score of a step that is learned; 1 without scores or such steps."""
    masked = wrong_tries(record, options) if options.tries == "mask" else ()
    scores = enumerate(scores_of(record) or ())
    return min((score for k, score in scores if score is not None and k not in masked), default=1.0)


def trace_error(records: Iterable[LabelledSolution]) -> float | None:
    """Share of the right responses that have a wrong step, by exact ratings; None where none is right and rated."""
    rated = [ratings for r in records if r.correct and (ratings := exact_ratings(r)) is not None]
    return sum(min(ratings, default=0) < 0 for ratings in rated) / len(rated) if rated else None


def _refusal(record: LabelledSolution, options: ExportOptions) -> str:
    """Why a response is left out; "" where it is not."""
    if options.right and record.correct is None and record.extra.get("unfinished") is not True:
        raise UserError(
            f"config.export.right: response {record.id or record.place} was never graded; set it to False to take "
            "responses right or wrong"
        )
    if record.extra.get("unfinished") is True:
        return "cut off"
    if options.right and not record.correct:
        return "not right"
    if options.least_score and scores_of(record) is None:
        raise UserError(
            f"config.export.least_score: response {record.id or record.place} has no scores; sample with "
            "--config.sample.prm=True"
        )
    if options.tries == "drop" and wrong_tries(record, options):
        return "with a wrong step"
    return f"below least_score={options.least_score:g}" if least_score(record, options) < options.least_score else ""

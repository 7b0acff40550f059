"""The prompted judge: one question per solution, asked again while the reply is malformed.

`judge` yields questions and is sent replies, so that it works the same with a server, with the rollout engine and in
tests.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from stepjax.data.schema import LabelledSolution, first_error_of
from stepjax.judges.cost import Cost
from stepjax.judges.rubric import Rubric
from stepjax.judges.verdicts import Malformed, read_verdicts


@dataclass(frozen=True)
class Reply:
    """Reply to a question.

    Attributes:
      text: the judge's words.
      read, written: tokens of question and reply; 0 where the server does not report them.
      refused: why the question can never be answered (too long for the model, say); empty where there is a text.
      fault: why the text may hold no verdicts, where the server says so: it was cut off, the judge refuses.
      cut: it ended at its limit.
    """

    text: str
    read: int = 0
    written: int = 0
    refused: str = ""
    fault: str = ""
    cut: bool = False


Judging = Generator[list[str], list[Reply], LabelledSolution]


def judge(
    record: LabelledSolution,
    rubric: Rubric,
    *,
    asks: int,
    model: str,
    tell_answer: bool = True,
    on_malformed: Callable[[Reply], None] = lambda reply: None,
) -> Judging:
    """The record with one rating per step, or without ratings and with the reason in `extra["label"]["unlabelled"]`.

    Args:
      asks: most attempts in total, while the reply is malformed; each repetition states what was wrong.
      model: named in the record.
      tell_answer: whether the judge sees the record's right answer.
      on_malformed: is given each reply without verdicts.
    """
    cost, reasons = Cost(), []
    question = rubric(record.problem, record.steps, record.answer if tell_answer else "")
    ratings: list[int] | None = None
    asked = question
    for _ in range(asks if record.steps else 0):
        (reply,) = yield [asked]
        cost += Cost(1, reply.written, reply.read)
        if reply.refused:
            reasons.append(reply.refused)
            break
        try:
            ratings = read_verdicts(reply.text, len(record.steps), cut=reply.cut)
            break
        except Malformed as error:
            reasons.append(why := reply.fault or str(error))
            on_malformed(reply)
            asked = f"{question}\n\nAn earlier reply could not be used: {why}. Keep to the form that is asked for."
    label: dict[str, Any] = {"model": model, "rubric": rubric.name, "template": rubric.digest}
    if reasons:
        label["malformed"] = len(reasons)
    if ratings is None:
        label["unlabelled"] = reasons[-1] if reasons else "the solution has no steps"
    return record.with_labels(
        kind="step",
        ratings=tuple(ratings or ()),
        values=(),
        first_error=None if ratings is None else first_error_of(ratings),
        completions=(),
        tokens=_shared(cost.read + cost.tokens, len(record.steps)) if ratings else (),
        extra={**record.extra, "label": label, "cost": cost.to_json()},
    )


def _shared(tokens: int, steps: int) -> tuple[int, ...]:
    """A question's tokens, shared evenly among its labels; their sum is exact."""
    return tuple(tokens // steps + (k < tokens % steps) for k in range(steps))

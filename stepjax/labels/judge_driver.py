"""The prompted judge at work: many questions at once to a server, or in batches through the rollout engine."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from stepjax.config import JudgeOptions, LabelOptions
from stepjax.console.progress import Bar, progress, say
from stepjax.data.schema import LabelledSolution
from stepjax.drive import drive
from stepjax.errors import UserError
from stepjax.judges.endpoint import ChatClient, Endpoint, Unanswered
from stepjax.judges.judge import Reply, judge
from stepjax.judges.rubric import Rubric
from stepjax.labels.chat import PolicyChat
from stepjax.labels.file import LabelFile
from stepjax.labels.policy import label_weights, load_policy
from stepjax.labels.tables import check_labelled, show_labels
from stepjax.parallel import is_main_process
from stepjax.runs.setup import Run
from stepjax.workdir.record_file import WEIGHTS

IN_A_ROW = 5
"""Solutions without an answer in a row after which the server is abandoned."""


def judge_by_server(options: LabelOptions, records: Sequence[LabelledSolution], out: Path) -> None:
    """Labels by a chat-completions server. A solution that the server did not answer is not written: the same command
    asks again.

    Raises:
      UserError: some solutions were not answered, the server answers none, or no solution of the file has a label.
    """
    wanted, start = options.judge, time.perf_counter()
    rubric, client = Rubric(wanted.rubric), ChatClient(_endpoint(wanted))
    failures: list[str] = []
    malformed = _Malformed()
    with LabelFile(out, _made_with(options, rubric, model=wanted.model)) as file:
        waiting = [record for record in records if record.id not in file.done]
        answered, in_a_row = bool(file.done), 0
        held: list[LabelledSolution] = []  # refused before any question was answered
        # Closed at once, also where Ctrl-C is seen in this loop: what is on its way would be waited for.
        asked = contextlib.closing(_asked(client, rubric, wanted, waiting, malformed))
        with progress("Judge", len(records), "solutions", start=len(records) - len(waiting)) as bar, asked as answers:
            for record, why in answers:
                if record is None:
                    failures.append(why)
                    in_a_row += 1
                    if in_a_row >= max(IN_A_ROW, wanted.concurrency):
                        break
                    continue
                in_a_row = 0
                label = record.extra["label"]
                if not answered and label.get("unlabelled", "").startswith("status "):
                    held.append(record)
                    if len(held) >= IN_A_ROW:
                        break
                    continue
                answered = True
                for each in (*held, record):
                    _write(file, each, options, bar)
                held = []
        if held and not answered:
            raise UserError(f"{wanted.url}: no question was accepted: {held[0].extra['label']['unlabelled']}")
        if not failures:
            show_labels(file, options, seconds=time.perf_counter() - start)
            check_labelled(file, client.shown(malformed.example, 1000))
    if failures:
        raise UserError(
            f"{wanted.url}: {len(failures)} solutions were not answered (the last one: {failures[-1]}); "
            f"{len(file.done)} are labelled in {out}; the same command asks again"
        )


def _asked(
    client: ChatClient,
    rubric: Rubric,
    options: JudgeOptions,
    records: Sequence[LabelledSolution],
    malformed: Callable[[Reply], None],
) -> Generator[tuple[LabelledSolution | None, str], None, None]:
    """Each record with its ratings, in the order of the answers; `(None, why)` for one without an answer."""

    def one(record: LabelledSolution) -> LabelledSolution:
        course = judge(
            record,
            rubric,
            asks=options.asks,
            model=options.model,
            tell_answer=options.tell_answer,
            on_malformed=malformed,
        )
        try:
            questions = next(course)
            while True:
                questions = course.send([client.ask(question) for question in questions])
        except StopIteration as end:
            return end.value

    pool = ThreadPoolExecutor(options.concurrency, thread_name_prefix="judge")
    rest = iter(records)
    try:
        open_ones: set[Future[LabelledSolution]] = set()
        while True:
            # No more than the threads can take, so that stopping leaves no queue behind.
            while len(open_ones) < options.concurrency and (record := next(rest, None)) is not None:
                open_ones.add(pool.submit(one, record))
            if not open_ones:
                return
            done, open_ones = wait(open_ones, return_when=FIRST_COMPLETED)
            for future in done:
                try:
                    yield future.result(), ""
                except Unanswered as failure:
                    yield None, str(failure)
    finally:
        client.stop()
        pool.shutdown(wait=False, cancel_futures=True)


def _write(file: LabelFile, record: LabelledSolution, options: LabelOptions, bar: Bar) -> None:
    file.append([_priced(record, options.judge)])
    figures: dict[str, Any] = {"tokens": file.cost.read + file.cost.tokens}
    if options.judge.price_in or options.judge.price_out:
        figures["cost"] = file.money
    if file.unlabelled:
        figures["not labelled"] = file.unlabelled
    bar.advance(1, **figures)


def _priced(record: LabelledSolution, options: JudgeOptions) -> LabelledSolution:
    """The record with its labeller, and the money that it cost where prices are known."""
    cost = record.extra["cost"]
    if options.price_in or options.price_out:
        money = (cost.get("read", 0) * options.price_in + cost["tokens"] * options.price_out) / 1e6
        cost = {**cost, "money": round(money, 9)}
    label = {"method": "judge", **record.extra["label"]}
    name = f"judge/{Path(options.rubric).stem}"
    return record.with_labels(labeller=name, extra={**record.extra, "label": label, "cost": cost})


def judge_by_policy(run: Run, records: Sequence[LabelledSolution], out: Path) -> None:
    """Labels by the policy of `label.stage`, prompted with the rubric, through the run's own rollout."""
    options, start, malformed = run.config.label, time.perf_counter(), _Malformed()
    if options.judge.extra_body.strip():
        raise UserError("config.label.judge.extra_body: only a server reads it; name one by config.label.judge.url")
    rubric = Rubric(options.judge.rubric)
    params, named = load_policy(run)
    chat = PolicyChat(run, params)
    model = f"{named['stage']}@{named['step']}"
    made_with = _made_with(options, rubric, model=named) | {WEIGHTS: label_weights(run)}
    with LabelFile(out, made_with, primary=is_main_process()) as file:
        waiting = [record for record in records if record.id not in file.done]
        asks, told = options.judge.asks, options.judge.tell_answer
        courses = (judge(r, rubric, asks=asks, model=model, tell_answer=told, on_malformed=malformed) for r in waiting)
        with progress("Judge", len(records), "solutions", start=len(records) - len(waiting)) as bar:
            for record in drive(courses, chat, enough=chat.rows):
                _write(file, record, options, bar)
        if chat.cut:
            say(f"{chat.cut} questions were longer than config.label.judge.prompt_tokens and were not asked")
        show_labels(file, options, seconds=time.perf_counter() - start)
        check_labelled(file, malformed.example)


class _Malformed:
    """Keeps one reply without verdicts, to be shown: the first that has a text."""

    def __init__(self) -> None:
        self.example = ""

    def __call__(self, reply: Reply) -> None:
        self.example = self.example or reply.text


def _endpoint(options: JudgeOptions) -> Endpoint:
    return Endpoint(**{f.name: getattr(options, f.name) for f in dataclasses.fields(Endpoint) if f.name != "where"})


def _made_with(options: LabelOptions, rubric: Rubric, *, model: Any) -> dict[str, Any]:
    wanted = options.judge
    names = ("asks", "temperature", "answer_tokens", "tell_answer")
    return {"method": "judge", "model": model, "rubric": rubric.name, "template": rubric.digest} | {
        name: getattr(wanted, name) for name in (*names, *(["extra_body"] if wanted.extra_body.strip() else []))
    }

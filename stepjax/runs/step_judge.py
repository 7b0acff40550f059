"""A prompted judge in the training loop: asynchronous, cached, bounded in time and money.

`ask` hands questions to threads and returns, so that a server thinks while the devices score the responses and other
rollouts decode; `ratings` waits for the answers. What was answered is kept in `judge/` of the work directory: a run
that was killed asks nothing twice and finds the same ratings. Without a rating a step earns nothing, which is counted.
"""

import contextlib
import dataclasses
import hashlib
import json
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from pathlib import Path
from typing import Any

import numpy as np

from stepjax.config.step_judge import StepJudgeOptions
from stepjax.console.progress import say
from stepjax.data.schema import LabelledSolution
from stepjax.errors import UserError
from stepjax.judges.endpoint import ChatClient, Endpoint, Unanswered
from stepjax.judges.judge import Reply, judge
from stepjax.judges.rubric import Rubric
from stepjax.workdir.json_lines import JsonLines

WHERE = "config.ppo.judge"
MALFORMED, UNANSWERED, UNAFFORDABLE = "malformed", "unanswered", "unaffordable"


@dataclasses.dataclass(frozen=True)
class Judged:
    """A judge's answer to one solution: its ratings, or why there are none; tokens read and written."""

    ratings: tuple[int, ...] | None
    fault: str = ""
    why: str = ""
    read: int = 0
    written: int = 0


class _Spent(Exception):
    """The budget is used up."""


class StepJudge:
    """The judge of `config.ppo.judge`; `folder` holds its answers. Of several processes each has its own part of the
    budget, and reads the others' answers when it starts."""

    def __init__(self, options: StepJudgeOptions, folder: Path, *, process: int = 0, processes: int = 1):
        """UserError where the options make no judge, or the folder cannot be used."""
        check_step_judge(options)
        self.options, self._budget = options, options.budget / processes
        fields = [f.name for f in dataclasses.fields(Endpoint) if f.name != "where"]
        self._client = ChatClient(Endpoint(**{name: getattr(options, name) for name in fields}, where=WHERE))
        self._rubric = Rubric(options.rubric, WHERE)
        self._pool = ThreadPoolExecutor(options.concurrency, thread_name_prefix="judge")
        self._known: dict[str, Judged] = {}
        self._open: dict[str, Future[Judged]] = {}
        self._fresh: set[str] = set()  # answered in this round
        self._lock, self.spent, self._told = threading.Lock(), 0.0, False
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(folder.glob("answers-*.jsonl")):
                self._read(path, own=path.name == f"answers-{process}.jsonl")
        except OSError as error:
            raise UserError(f"{error.filename or folder} cannot be used: {error.strerror}") from None
        self._file = JsonLines(folder / f"answers-{process}.jsonl")
        self.last = np.zeros((0, 6), np.float32)

    def _read(self, path: Path, *, own: bool) -> None:
        for line in path.read_bytes().splitlines():
            with contextlib.suppress(ValueError, TypeError, KeyError):  # a killed process may leave half a line
                found = json.loads(line)
                ratings = None if found["ratings"] is None else tuple(found["ratings"])
                answer = Judged(ratings, found["fault"], found["why"], found["read"], found["written"])
                self._known[found["question"]] = answer
                if own:
                    self.spent += self._price(answer.read, answer.written)

    def ask(self, problems: Sequence[str], answers: Sequence[str], steps: Sequence[Sequence[str]]) -> list[str]:
        """Starts the questions that are not answered yet; returns the name of each solution's question."""
        names = []
        for problem, answer, of_one in zip(problems, answers, steps, strict=True):
            record = LabelledSolution(problem, tuple(of_one), answer=answer or "")
            name = self._name(record)
            if of_one and name not in self._known and name not in self._open:
                self._open[name] = self._pool.submit(self._judged, record)
            names.append(name)
        return names

    def next_round(self) -> None:
        """What is answered from here on counts as asked in this round."""
        self._fresh.clear()

    def ratings(
        self, problems: Sequence[str], answers: Sequence[str], steps: Sequence[Sequence[str]]
    ) -> list[Sequence[int] | None]:
        """The ratings of each solution's steps, waited for no longer than `seconds`; None: there are none.

        `last` then holds a row of each solution: whether it was asked now, was malformed, unanswered, unaffordable;
        tokens read and written.

        Raises:
          UserError: no question can succeed (a wrong key, address or model).
        """
        names = self.ask(problems, answers, steps)
        end = time.monotonic() + self.options.seconds
        found = [Judged(()) if not of_one else self._answer(n, end) for n, of_one in zip(names, steps, strict=True)]
        rows, counted = [], set[str]()
        for name, one in zip(names, found, strict=True):
            new = name in self._fresh and name not in counted
            counted.add(name)
            faults = [one.fault == fault for fault in (MALFORMED, UNANSWERED, UNAFFORDABLE)]
            rows.append([new and one.read + one.written > 0, *faults, one.read * new, one.written * new])
        self.last = np.array(rows, np.float32).reshape(-1, 6)
        if names and all(one.ratings is None for one in found):
            say(f"the judge rated none of {len(names)} responses ({found[0].why}); their steps earn nothing")
        return [one.ratings for one in found]

    def _answer(self, name: str, end: float) -> Judged:
        if name in self._known:
            return self._known[name]
        future = self._open[name]
        try:
            found = future.result(timeout=max(end - time.monotonic(), 0.0))
        except NotYet:
            future.cancel()
            if future.cancelled():
                del self._open[name]
            return Judged(None, UNANSWERED, f"no answer in {self.options.seconds:g} s")
        except Unanswered as failure:
            found = Judged(None, UNANSWERED, str(failure))
        except _Spent:
            found = Judged(None, UNAFFORDABLE, f"{WHERE}.budget={self.options.budget:g} is spent")
            if not self._told:
                self._told = True
                say(f"the judge: {found.why}; steps without a rating earn nothing from here on")
        del self._open[name]
        if found.fault not in (UNANSWERED, UNAFFORDABLE):
            self._known[name] = found
            self._fresh.add(name)
            self._file.append([{"question": name, **dataclasses.asdict(found)}])
        return found

    def _judged(self, record: LabelledSolution) -> Judged:
        """Asks about one solution; runs in a thread."""
        options = self.options
        course = judge(record, self._rubric, asks=options.asks, model=options.model, tell_answer=options.tell_answer)
        questions = next(course)
        while True:
            with self._lock:
                if self._budget and self.spent >= self._budget:
                    raise _Spent
            reply: Reply = self._client.ask(questions[0])
            with self._lock:
                self.spent += self._price(reply.read, reply.written)
            try:
                questions = course.send([reply])
            except StopIteration as done:
                return _read_record(done.value)

    def _price(self, read: int, written: int) -> float:
        return (read * self.options.price_in + written * self.options.price_out) / 1e6

    def _name(self, record: LabelledSolution) -> str:
        """Names everything that the answer depends on."""
        told = record.answer if self.options.tell_answer else ""
        fixed = [
            getattr(self.options, name) for name in ("model", "temperature", "answer_tokens", "asks", "extra_body")
        ]
        text = json.dumps([self._rubric.digest, *fixed, record.problem, list(record.steps), told])
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def close(self) -> None:
        """Ends all questions at once."""
        self._client.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._file.close()


def _read_record(record: LabelledSolution) -> Judged:
    label, cost = record.extra["label"], record.extra["cost"]
    read, written = cost.get("read", 0), cost["tokens"]
    if "unlabelled" in label:
        return Judged(None, MALFORMED, str(label["unlabelled"]), read, written)
    return Judged(tuple(int(rating or 0) for rating in record.ratings), read=read, written=written)


def check_step_judge(options: StepJudgeOptions) -> None:
    """UserError where the options name no server, or bound money without a price."""
    for name, what in (("url", "the server's address, such as http://localhost:8000/v1"), ("model", "its model")):
        if not getattr(options, name):
            raise UserError(f"{WHERE}.{name}: signal judge needs it: {what}")
    if options.budget and not options.price_in and not options.price_out:
        raise UserError(f"{WHERE}.budget: {options.budget:g} needs the prices, {WHERE}.price_in and price_out")


def judge_figures(rows: np.ndarray, options: StepJudgeOptions) -> dict[str, Any]:
    """Figures of a round for the metrics, from `StepJudge.last` of all of its responses."""
    asked, *faults = rows[:, :4].mean(axis=0).tolist()
    read, written = rows[:, 4:].sum(axis=0).tolist()
    found = {"judge/asked": asked, "judge/tokens": read + written}
    found |= {f"judge/{n}": x for n, x in zip((MALFORMED, UNANSWERED, UNAFFORDABLE), faults, strict=True)}
    if options.price_in or options.price_out:
        found["judge/cost"] = (read * options.price_in + written * options.price_out) / 1e6
    return found

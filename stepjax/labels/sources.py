"""Solutions to label: read from files, or sampled once by a stage's policy and stored for all labellers."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from stepjax.console.progress import say
from stepjax.data.dataset import Records
from stepjax.data.schema import LabelledSolution, line
from stepjax.data.step_encoding import SolutionEncoder
from stepjax.distributed.agree import agree
from stepjax.errors import UserError
from stepjax.labels.solution import Completion, Prefix, Solution
from stepjax.parallel import is_main_process, key_on
from stepjax.rollout.sampling import Sampler
from stepjax.runs.response_records import record_of
from stepjax.runs.response_sampling import first_prompts, sample_each
from stepjax.runs.responses import grade_responses
from stepjax.runs.setup import Run
from stepjax.runs.stages import policy_params
from stepjax.tasks.encoding import solution_encoder


def read_solutions(paths: str, where: str) -> list[LabelledSolution]:
    """The records of JSONL files or of folders that `stepjax data` wrote (commas between); `where` names the option.

    UserError where a row is not a record (file:line), or where there are no records.
    """
    names = [path for part in paths.split(",") if (path := part.strip())]
    found = [record for name in names for record in Records(name)]
    if not found:
        raise UserError(f"{where}={paths}: no solutions there")
    return found


def named_records(paths: str) -> list[LabelledSolution]:
    """The records of `config.label.data`, each with a name of its own."""
    records, names = [], Counter[str]()
    for record in read_solutions(paths, "config.label.data"):
        name = record.id or hashlib.sha256("\0".join((record.problem, *record.steps)).encode()).hexdigest()[:16]
        names[name] += 1
        records.append(replace(record, id=name if names[name] == 1 else f"{name}#{names[name]}"))
    return records


def sampled_records(run: Run) -> list[LabelledSolution]:
    """`label.samples` responses to each of `label.problems` problems; sampled once, then read from the work directory.

    A record holds the tokens that were sampled (`extra["tokens"]`), so that its prefixes are never encoded again.
    """
    options = run.config.label
    names = ("solver", "split", "problems", "samples", "temperature", "seed")
    made_with = {name: getattr(options, name) for name in names}
    digest = hashlib.sha256(json.dumps(made_with).encode()).hexdigest()[:8]
    path = run.workdir / "labels" / f"solutions-{digest}.jsonl"
    if not agree(int(path.exists())):
        prompts = first_prompts(run, options.split, options.problems)
        params = policy_params(run, options.solver)
        found = sample_each(
            run,
            params,
            prompts,
            Sampler(options.temperature),
            key_on(run.mesh, options.seed, 20),
            each=options.samples,
            at_once=options.rows,
            label="Solutions",
        )
        if is_main_process():
            names_of = [f"{r.problem.id}/{i % options.samples}" for i, r in enumerate(found)]
            records = [record_of(run, r, name) for r, name in zip(found, names_of, strict=True) if r.steps]
            _write(path, records)
        agree(0)
    return read_solutions(str(path), "config.label.data")


def _write(path: Path, records: Sequence[LabelledSolution]) -> None:
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "w", encoding="utf-8", errors="replace") as file:
            file.writelines(line(record) for record in records)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error


def solutions(run: Run, records: Sequence[LabelledSolution]) -> list[Solution]:
    """Records in tokens; those that cannot be completed are left out and counted, by reason."""
    ppo, lost = run.config.ppo, Counter[str]()
    encoder = solution_encoder(run.prompt, run.splitter)
    found = []
    for record in records:
        solution = _sampled(run, record) or _encoded(run, record, encoder, lost)
        if solution is None:
            continue
        if len(solution.prompt) > ppo.prompt_tokens:
            lost[f"solutions whose prompt is longer than config.ppo.prompt_tokens={ppo.prompt_tokens}"] += 1
        elif len(solution.tokens) > ppo.max_new_tokens:
            lost[f"solutions longer than config.ppo.max_new_tokens={ppo.max_new_tokens}"] += 1
        elif not record.answer:
            lost["solutions whose right answer is not given"] += 1
        else:
            found.append(solution)
    for reason, count in sorted(lost.items()):
        if count:
            say(f"{reason}: {count}")
    if not found:
        raise UserError("config.label.data: no solution in it can be labelled by completions")
    return _graded(run, found)


def _sampled(run: Run, record: LabelledSolution) -> Solution | None:
    """The record's own tokens, where they are of this tokenizer and match its steps."""
    prompt, tokens = record.extra.get("prompt_tokens"), record.extra.get("tokens")
    known = range(len(run.tokenizer))
    for ids in (prompt, tokens):
        if not isinstance(ids, list) or not ids or not all(type(i) is int and i in known for i in ids):
            return None
    assert isinstance(prompt, list) and isinstance(tokens, list)
    if [text.strip() for text in run.splitter.texts(tokens)] != [step.strip() for step in record.steps]:
        return None
    return _solution(run, record, prompt, tokens, run.splitter.split_host(tokens)[0])


def _encoded(run: Run, record: LabelledSolution, encoder: SolutionEncoder, lost: Counter[str]) -> Solution | None:
    encoded = encoder(record, lost)
    if encoded is None:
        return None
    prompt, tokens = encoded.tokens[: encoded.prompt].tolist(), encoded.tokens[encoded.prompt :].tolist()
    return _solution(run, record, prompt, tokens, encoded.step[encoded.prompt :])


def _solution(
    run: Run, record: LabelledSolution, prompt: Sequence[int], tokens: Sequence[int], step: np.ndarray
) -> Solution:
    finished = run.framing.finished(tokens)
    problem = run.prompt.problem_of(record.problem, record.id, record.answer)
    return Solution(record, problem, tuple(prompt), tuple(tokens), step, finished, finished and bool(record.correct))


def _graded(run: Run, found: list[Solution]) -> list[Solution]:
    """The same solutions, with whether each ends in the right answer where its record does not state it."""
    open_ones = [i for i, s in enumerate(found) if s.finished and s.record.correct is None]
    texts = [run.framing.text(found[i].tokens) for i in open_ones]
    for i, right in zip(
        open_ones, grade_responses(run.task, [found[i].problem for i in open_ones], texts), strict=True
    ):
        found[i] = replace(found[i], correct=bool(right))
    return found


def as_solution(run: Run, prefix: Prefix, completion: Completion, name: str) -> Solution:
    """A prefix with its completion as a solution of its own."""
    tokens = [*prefix.tokens, *completion.tokens]
    record = LabelledSolution(
        problem=prefix.problem.text,
        steps=tuple(text.strip() for text in run.splitter.texts(tokens)),
        answer=prefix.problem.answer,
        correct=completion.correct,
        source=run.task.name,
        id=name,
        group=prefix.problem.text,
        extra={"prompt_tokens": list(prefix.prompt), "tokens": tokens},
    )
    return Solution(
        record,
        prefix.problem,
        prefix.prompt,
        tuple(tokens),
        run.splitter.split_host(tokens)[0],
        completion.finished,
        completion.correct,
    )

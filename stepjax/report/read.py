"""Reads the files of a work directory, as far as they can be read. What cannot be read becomes a note."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stepjax.errors import UserError

READ = ("id", "problem", "answer", "correct", "steps")
"""What the page reads of an evaluation's response."""
MOST_SEARCHES = 40
FILES = ("config.json", "metrics.jsonl", "samples.jsonl", "eval.json")


@dataclass(frozen=True)
class RunFiles:
    """The files of a work directory.

    Attributes:
      name: the folder's own name.
      config: the options, nested.
      metrics: one flat record per (stage, step), sorted by step inside a stage, stages in the order they began.
      samples: responses in the order they were written.
      evaluation: eval.json, or {}.
      hacks: hacks.json, or {}.
      responses: each evaluated stage's first response to each held-out problem, in the order of the file.
      executions: on which machine each stage ran, and how long, in the order they ended.
      notes: sentences about what could not be read.
      searches: pages of searches, relative to the folder.
    """

    name: str
    config: dict[str, Any]
    metrics: list[dict[str, Any]]
    samples: list[dict[str, Any]]
    evaluation: dict[str, Any]
    hacks: dict[str, Any] = field(default_factory=dict)
    responses: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    executions: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    searches: list[str] = field(default_factory=list)


def read_run(workdir: Path) -> RunFiles:
    """Reads a work directory; UserError where the folder holds none of a run's files."""
    if not any((workdir / name).is_file() for name in FILES):
        what = "holds none of " + ", ".join(FILES) if workdir.is_dir() else "is not a folder"
        raise UserError(f"{workdir}: {what}; give the work directory of a run")
    notes: list[str] = []
    evaluation = _document(workdir / "eval.json", notes)
    return RunFiles(
        name=workdir.resolve().name,
        config=_document(workdir / "config.json", notes),
        metrics=merge_records(read_lines(workdir / "metrics.jsonl", notes)),
        samples=_unrepeated(read_lines(workdir / "samples.jsonl", notes)),
        evaluation=evaluation,
        hacks=_document(workdir / "hacks.json", notes),
        responses=_responses(workdir, evaluation, notes),
        executions=list(read_lines(workdir / "stages.jsonl", notes)),
        notes=notes,
        searches=[f"search/{page.name}" for page in sorted((workdir / "search").glob("*.html"))][:MOST_SEARCHES],
    )


def merge_records(records: Iterator[dict[str, Any]] | list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One flat record per (stage, step): nested groups become "group/name", and later lines win.

    A run that was stopped and resumed repeats the steps after its last checkpoint; the repetition
    counts, because the run continued from it.
    """
    merged: dict[str, dict[int, dict[str, Any]]] = {}
    for record in records:
        step, stage = record.get("step"), record.get("stage")
        if isinstance(step, int) and not isinstance(step, bool) and abs(step) < 10**15:
            name = stage if isinstance(stage, str) else ""
            merged.setdefault(name, {}).setdefault(step, {}).update(flatten(record) | {"stage": name})
    return [steps[step] for steps in merged.values() for step in sorted(steps)]


def flatten(tree: dict[str, Any], separator: str = "/") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a/b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= {f"{key}{separator}{name}": leaf for name, leaf in flatten(value, separator).items()}
        else:
            flat[key] = value
    return flat


def _document(path: Path, notes: list[str]) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except (ValueError, RecursionError) as error:
        notes.append(f"{path.name} could not be read ({error}); the report leaves it out.")
        return {}
    if not isinstance(value, dict):
        notes.append(f"{path.name} does not hold an object; the report leaves it out.")
        return {}
    return value


def read_lines(path: Path, notes: list[str]) -> Iterator[dict[str, Any]]:
    """The objects of a JSON-lines file. A last line without its end, left by a stopped run, is skipped."""
    if not path.is_file():
        return
    unreadable, cut_off = [], False
    with path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
        for i, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                value = None
            if isinstance(value, dict):
                yield value
            elif line.endswith("\n"):
                unreadable.append(i)
            else:
                cut_off = True
    if unreadable:
        lines_are = "line" if len(unreadable) == 1 else "lines"
        some = ", ".join(map(str, unreadable[:5])) + (" …" if len(unreadable) > 5 else "")
        notes.append(f"{path.name}: {len(unreadable)} {lines_are} could not be read and were left out (line {some}).")
    if cut_off:
        notes.append(f"{path.name}: the last line is cut off (the run was stopped while it wrote) and was left out.")


def _responses(workdir: Path, evaluation: dict[str, Any], notes: list[str]) -> dict[str, list[dict[str, Any]]]:
    """The responses of the evaluation of `eval.json`, by stage; those of an earlier one on another split stay out."""
    rows, split = evaluation.get("rows"), evaluation.get("split")
    stages = [stage for stage in rows if re.fullmatch(r"\w+", stage)] if isinstance(rows, dict) else []
    if not isinstance(split, str) or not re.fullmatch(r"[\w.-]+", split):
        return {}
    paths = {stage: workdir / "responses" / f"{stage}-{split}.jsonl" for stage in stages}
    return {stage: found for stage, path in paths.items() if (found := firsts(read_lines(path, notes)))}


def firsts(rows: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first response to each problem (ids are PROBLEM/SAMPLE), without its tokens: files of long responses are
    large."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        name = str(row.get("id"))
        problem = name.rpartition("/")[0] or name
        if problem not in found:
            extra = row["extra"] if isinstance(row.get("extra"), dict) else {}
            kept = {key: extra[key] for key in ("unfinished", "step_ratings", "prm") if key in extra}
            found[problem] = {key: row.get(key) for key in READ} | {"extra": kept}
    return list(found.values())


def _unrepeated(records: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """A resumed run writes the same samples again."""
    return list({json.dumps(record, sort_keys=True): record for record in records}.values())

"""`stepjax show responses FILE`: responses of an evaluation or a sample, filtered."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from stepjax.config import POLICIES
from stepjax.data.dataset import Records
from stepjax.errors import UserError, nearest
from stepjax.report.filters import alarm, disagrees, right, truncated, wrong, wrong_step
from stepjax.sample.shown import Shown, shown_lines

LIMIT = 20
"""Responses that are shown where the line does not say how many."""
FILTERS: Mapping[str, Callable[[Shown], bool]] = {
    "--wrong": wrong,
    "--right": right,
    "--wrong-step": wrong_step,
    "--disagrees": disagrees,
    "--truncated": truncated,
    "--alarm": alarm,
}
"""Options that choose responses; several choose those that all of them do."""


def show_responses(argv: Sequence[str]) -> str:
    """The responses of a file, or of the last stage of a work directory, that pass the filters of the command line.

    UserError for an unknown option, a file that is not there or holds no responses.
    """
    path, chosen, limit = read_arguments(argv)
    found, count, shown = list[Shown](), 0, 0
    for record in Records(_file(path)):
        one = Shown.of_record(record)
        count += 1
        if all(FILTERS[name](one) for name in chosen):
            shown += 1
            if not limit or shown <= limit:
                found.append(one)
    lines = [line for one in found for line in shown_lines(one)]
    which = f" ({', '.join(name[2:] for name in chosen)})" if chosen else ""
    more = f"; --limit={shown} shows all, the first {limit} are above" if limit and shown > limit else ""
    marks = "✓ good, ○ neutral, ✗ bad by the exact rating; the number is the process reward model's P(right)"
    return "\n".join([*lines, "", *([marks] if lines else []), f"{shown} of {count} responses{which}{more}"])


def read_arguments(argv: Sequence[str]) -> tuple[Path, list[str], int]:
    """The file or folder, the filters, and how many responses are shown at most (0: all)."""
    paths, chosen, limit = [], [], LIMIT
    for argument in argv:
        name, _, value = argument.partition("=")
        if not argument.startswith("-"):
            paths.append(argument)
        elif argument in FILTERS:
            chosen.append(argument)
        elif name == "--limit" and value.isascii() and value.isdigit() and len(value) < 10:
            limit = int(value)
        elif name == "--limit":
            raise UserError(f"{argument}: must be a whole number, 0 for all, as in --limit=50")
        else:
            raise UserError(f"{argument}: no such option{nearest(name, [*FILTERS, '--limit'])}")
    if len(paths) != 1:
        raise UserError(
            "name one file or work directory, as in `stepjax show responses runs/quickstart/responses/ppo-test.jsonl`"
        )
    return Path(paths[0]), chosen, limit


def _file(path: Path) -> Path:
    """The file; of a work directory that of its last stage."""
    if not path.is_dir():
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        return path
    for stage in reversed(POLICIES):
        for folder in (path / "responses", path / "samples", path):
            if files := sorted(folder.glob(f"{stage}-*.jsonl")):
                return files[0]
    raise UserError(f"{path}: no responses there; `stepjax eval --workdir={path}` writes some")

"""`stepjax export --config.export.what=conversations`: chosen responses as a chat JSONL."""

import re
from collections.abc import Mapping
from pathlib import Path

from stepjax.config import POLICIES, Config, ExportOptions
from stepjax.console.progress import say
from stepjax.data.schema import LabelledSolution
from stepjax.distil.conversations import conversation
from stepjax.distil.readers import read_responses
from stepjax.distil.worth_learning import ChosenResponses, trace_error, worth_learning
from stepjax.errors import UserError
from stepjax.parallel import is_main_process
from stepjax.runs.export import saved_config
from stepjax.runs.opening import open_run
from stepjax.runs.origin_parts import EXPORTING
from stepjax.runs.setup import Run
from stepjax.tasks.base import Problem
from stepjax.workdir.json_lines import JsonLines


def export_conversations(config: Config, workdir: Path, *, accept_changed: bool = False) -> Path:
    """Writes `config.export.out`, made from the responses that `config.export` chooses, and returns it.

    Prompts are those of the work directory's own options. `accept_changed`: as in `open_run`.

    Raises:
      UserError: no file is named, or it is there; no response is left; a response cannot be read.
    """
    options = config.export
    out = _checked_out(options)
    responses = _responses(options, workdir)
    opened = open_run(saved_config(config, workdir), workdir, kinds=EXPORTING, accept_changed=accept_changed)
    with opened as run:
        choice = worth_learning(read_responses(responses, run), options)
        tell(choice)
        if not choice.chosen:
            raise UserError("config.export: no response passes the filters; nothing is written")
        problems = _Problems(run)
        separator = run.splitter.separator
        rows = [conversation(r, problems.of(r), run.prompt, options, separator) for r in choice.chosen]
        if is_main_process():
            _write(out, rows)
    return out


def tell(choice: ChosenResponses) -> None:
    """Says what was chosen and what was not, and the trace error before and after."""
    problems = len({record.group_key for record in choice.chosen})
    left = ", ".join(f"{count} {reason}" for reason, count in choice.left_out.most_common())
    say(
        f"{len(choice.chosen)} conversations on {problems} problems, of {len(choice.read)} responses"
        + (f"; left out: {left}" if left else "")
    )
    before, after = trace_error(choice.read), trace_error(choice.chosen)
    if before is not None and after is not None:
        say(f"right answers with a wrong step: {before:.1%} before, {after:.1%} after")
    if any(record.id.startswith("test/") for record in choice.chosen):
        say("some are answers to problems of the split test: a policy that learns them cannot be tested on it")


class _Problems:
    """The problems that records answer, as the run's prompt wants them."""

    def __init__(self, run: Run):
        self.run = run
        # A user template of the run's may name columns, which records do not hold.
        names = set(re.findall(r"\{(\w+)\}", run.config.prompt.user)) - {"problem"}
        splits = ("train", "valid", "test") if names else ()
        self.known: Mapping[str, Problem] = {p.text: p for split in splits for p in run.task.problems(split)}

    def of(self, record: LabelledSolution) -> Problem:
        text = record.problem.strip()
        return self.known.get(text) or self.run.prompt.problem_of(text, record.id, record.answer)


def _checked_out(options: ExportOptions) -> Path:
    for name in ("push", "adapter"):
        if getattr(options, name):
            raise UserError(f"config.export.{name}: it is for policies; leave it out, or set what=policy")
    if not options.out:
        raise UserError("name the file to write, --config.out=conversations.jsonl")
    out = Path(options.out)
    if out.exists():
        raise UserError(f"config.export.out={out}: this file is there already; name a new one")
    return out


def _responses(options: ExportOptions, workdir: Path) -> str:
    if options.responses:
        return options.responses
    stages = (options.stage,) if options.stage else tuple(reversed(POLICIES))
    paths = [workdir / "samples" / f"{stage}-train.jsonl" for stage in stages]
    path = next((path for path in paths if path.is_file()), paths[0])
    if not path.is_file():
        raise UserError(
            f"{path}: no such file; make it by `stepjax sample --config.sample.split=train`, or name another in "
            "config.export.responses"
        )
    return str(path)


def _write(out: Path, rows: list[dict]) -> None:
    partial = out.with_name(f"{out.name}.partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)
        lines = JsonLines(partial)
        lines.append(rows)
        lines.close()
        partial.replace(out)
    except OSError as error:
        raise UserError(f"config.export.out={out}: cannot be written ({error.strerror or error})") from error

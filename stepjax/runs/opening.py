"""Opening a run: its work directory, and what all stages share, checked against its checkpoints."""

import dataclasses
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from stepjax.config import Config, default_option, resumable_options
from stepjax.data.framing import Framing
from stepjax.distributed.agree import agree
from stepjax.errors import UserError
from stepjax.parallel import is_main_process, mesh_of
from stepjax.runs.base import check_base, check_prm_run
from stepjax.runs.check import check_options
from stepjax.runs.kept_tokenizer import ready_tokenizer
from stepjax.runs.origin_parts import TRAINING
from stepjax.runs.origins import check_origins
from stepjax.runs.setup import Run, embedding_rows, make_tokenizer
from stepjax.runs.start import SOURCE, ends_of, open_start, remember
from stepjax.steps import StepSplitter
from stepjax.tasks.registry import make_task
from stepjax.tasks.tagged import check_structure, step_separator
from stepjax.workdir.folder import CONFIG, OPENED, open_workdir
from stepjax.workdir.origin import TOKENIZER


@contextmanager
def open_run(
    config: Config, workdir: Path, *, kinds: Collection[str] = TRAINING, accept_changed: bool = False
) -> Iterator[Run]:
    """Opens (or continues) a work directory and builds what all stages share.

    Args:
      kinds: which parts the checkpoints that are there must have in common with this command
        (`stepjax.runs.origin_parts`).
      accept_changed: goes on where such a part was changed, and records that.

    Raises:
      UserError: something does not fit, or was changed since the checkpoints were saved.
    """
    mesh = mesh_of(config.mesh)
    check_options(config, mesh)
    check_base(config)
    task = make_task(config if "data" in kinds else _without_grader(config))
    check_structure(config, task)
    options = dataclasses.asdict(config)
    fresh = not (workdir / CONFIG).exists()
    with open_workdir(
        workdir,
        options,
        resumable_options() | _not_begun(workdir),
        record=kinds == TRAINING,
        primary=is_main_process(),
        default=default_option,
    ) as opened:
        try:
            if is_main_process():
                ready_tokenizer(opened, config.base, accept=accept_changed)
            else:
                agree(0)  # process 0 makes the tokenizer, the others read it
            start = open_start(config)
            tokenizer = make_tokenizer(config, task, opened, start)
            if is_main_process():
                agree(0)
            check_prm_run(config, tokenizer)
            vocab = embedding_rows(config, len(tokenizer) if start is None else start.decoder.vocab)
            framing = Framing.of(tokenizer, () if start is None else ends_of(config, tokenizer, start))
            splitter = StepSplitter(tokenizer, step_separator(config, task.separator), framing.ends)
            run = Run(config, opened, mesh, task, tokenizer, framing, splitter, vocab, start)
            _ = run.decoder  # what is wrong with it is said now
            if is_main_process():
                if start is not None:
                    remember(start, opened)
                check_origins(run, kinds, accept=accept_changed)
            agree(0)  # where process 0 refuses, no other one goes on
            yield run
        except UserError:
            if fresh and is_main_process():
                _release(opened)
            raise


def _without_grader(config: Config) -> Config:
    """For a command that reads no data and grades nothing: the user's grader may not be on this machine."""
    return dataclasses.replace(config, task=dataclasses.replace(config.task, grader=""))


def _not_begun(workdir: Path) -> set[str]:
    """Options that nothing here was made with yet: those of expert iteration, which often follows a finished run."""
    begun = any((workdir / name).exists() for name in ("checkpoints/improve", "search/improve-1.jsonl"))
    return set() if begun else {"improve."}


def _release(workdir: Path) -> None:
    """A mistake found at the start must not leave its options in the folder: what opening the run wrote is removed, and
    `open_workdir` removes the rest. Where a command has left anything else, all of it stays."""
    if {entry.name for entry in workdir.iterdir()} <= {*OPENED, TOKENIZER, f"{TOKENIZER}.partial", SOURCE}:
        shutil.rmtree(workdir / TOKENIZER, ignore_errors=True)
        shutil.rmtree(workdir / f"{TOKENIZER}.partial", ignore_errors=True)
        (workdir / SOURCE).unlink(missing_ok=True)

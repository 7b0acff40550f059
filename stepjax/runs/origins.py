"""What the checkpoints of a run are made of: recorded with each, compared when a command goes on from them."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from stepjax.console.progress import say
from stepjax.distributed.agree import agree
from stepjax.errors import UserError
from stepjax.parallel import is_main_process
from stepjax.runs.origin_parts import RECORDED, TRAINING, parts_of
from stepjax.runs.setup import Run
from stepjax.workdir import origin
from stepjax.workdir.code_version import shown
from stepjax.workdir.fingerprints import ACCEPT, Change, Parts, changes

STAGES = ("sft", "prm", "improve", "ppo")


class _Changed(NamedTuple):
    """A stage that is not made of what is there now: its newest checkpoint, the record of it, what changed."""

    stage: str
    step: int
    folder: Path
    record: origin.Record
    found: list[Change]


def check_origins(run: Run, kinds: Collection[str], *, accept: bool) -> None:
    """Compares what every checkpoint of the work directory was made of with what is there now; on process 0.

    Checkpoints of an earlier version, without a record, get one. What changed and is accepted is recorded with them.
    Without `kinds` nothing is compared, and nothing written.

    Raises:
      UserError: something changed, and the user did not say `accept`.
    """
    changed, unknown = [], []
    for stage in STAGES if kinds else ():
        if (newest := origin.newest(run.checkpoint_folder(stage))) is None:
            continue
        step, folder = newest
        if (record := origin.read(folder)) is None:
            unknown.append(stage)
            _record_later(run, stage, step, folder)
        elif found := list(changes(record.parts, parts_of(run, stage, kinds, record.parts), kinds)):
            changed.append(_Changed(stage, step, folder, record, found))
    if unknown:
        say(
            f"{_named(unknown)}: saved without fingerprints, as earlier versions did; those of the files that are here "
            "now are recorded"
        )
    if not changed:
        return
    told = list(dict.fromkeys(str(change) for one in changed for change in one.found))
    more = f" and {len(told) - 3} more" if len(told) > 3 else ""
    stages, what = [one.stage for one in changed], f"{', '.join(told[:3])}{more}"
    if not accept:
        raise UserError(
            f"{run.workdir}: changed since {_named(stages)} {'was' if len(stages) == 1 else 'were'} saved: {what}; put "
            f"back what was there, or go on with what is here: {ACCEPT}"
        )
    for one in changed:
        for change in one.found:
            one.record.accept(change, one.step)
        origin.write(one.folder, one.record, _tokenizer_files(run))
    say(f"{ACCEPT}: {_named(stages)} {'goes' if len(stages) == 1 else 'go'} on with other files, as recorded: {what}")


def _record_later(run: Run, stage: str, step: int, folder: Path) -> None:
    """Records what is there now beside a checkpoint that has no record. The code that made it is not known."""
    parts: Parts = parts_of(run, stage, [kind for kind in TRAINING if kind != "release"], {})
    if not parts["data"]:  # none, or not on this machine
        del parts["data"]
    later = {"step": step, "kind": "recorded later"}
    origin.write(folder, origin.Record(parts, [later]), _tokenizer_files(run))


class StageOrigin:
    """What the checkpoints of one stage, which this command trains, are made of.

    Every process makes one; process 0 reads the files, and writes the record beside each checkpoint.
    """

    def __init__(self, run: Run, stage: str):
        self._run, self._stage = run, stage
        self._record = origin.Record()
        self._tokenizer: Mapping[str, bytes] = {}

    def begin(self) -> None:
        """Takes the fingerprints of a stage that has work left; says where other code began it. All processes call."""
        if is_main_process():
            run, stage = self._run, self._stage
            newest = origin.newest(run.checkpoint_folder(stage))
            before = (origin.read(newest[1]) if newest else None) or origin.Record()
            now = parts_of(run, stage, RECORDED, before.parts)
            self._record, self._tokenizer = origin.Record(now, before.changes), _tokenizer_files(run)
            there, here = before.parts.get("code", {}).get("stepjax"), now["code"]["stepjax"]
            if newest and there and there.get("source") != here["source"]:
                say(f"stage {stage} was begun by stepjax {shown(there)} and is continued by {shown(here)}")
                self._record.accept(Change("code", "stepjax", there, here), newest[0])
        agree(0)  # the others wait here, not in a collective

    def write(self, checkpoint: Path) -> None:
        """Writes the record and the tokenizer beside a checkpoint that is being written; on process 0."""
        origin.write(checkpoint, self._record, self._tokenizer)


def _tokenizer_files(run: Run) -> dict[str, bytes]:
    return origin.read_tokenizer(run.workdir / origin.TOKENIZER)


def _named(stages: Iterable[str]) -> str:
    stages = list(stages)
    return f"stage{'s' if len(stages) > 1 else ''} {', '.join(stages)}"

"""The tokenizer of a work directory against the copies in its checkpoints: restored where it is lost, not made anew."""

from pathlib import Path

from stepjax.console.progress import say
from stepjax.errors import UserError
from stepjax.workdir import origin
from stepjax.workdir.fingerprints import ACCEPT, Print, bytes_print, changes


def ready_tokenizer(workdir: Path, base: str, *, accept: bool) -> None:
    """Gives the work directory's tokenizer what it lacks, from its checkpoints; on process 0, before it is read.

    A new work directory takes over the tokenizer of its base, which is checked and, if lost, restored likewise.

    Raises:
      UserError: it was changed, or is lost together with every copy, and the user did not say `accept`.
    """
    folder = workdir / origin.TOKENIZER
    if folder.is_dir() or not base or _checkpoints(workdir):
        _check(workdir, folder, f"remove the folder {folder}, and the same command restores it", accept)
        _restore(workdir, folder, accept)
        return
    _check(Path(base), Path(base) / origin.TOKENIZER, f"put it back (config.base={base})", accept)
    if not (Path(base) / origin.TOKENIZER).is_dir():
        _restore(Path(base), folder, accept)


def _check(workdir: Path, folder: Path, cure: str, accept: bool) -> None:
    """UserError where the folder has other files than those that the checkpoints were trained with."""
    recorded = _recorded(workdir)
    now = {name: bytes_print(content) for name, content in origin.read_tokenizer(folder).items()}
    if not recorded or not now or accept:
        return
    if found := [str(change) for change in changes({"": recorded}, {"": now}, ("",)) if change.now is not None]:
        raise UserError(
            f"{folder}: changed since the checkpoints were saved: {', '.join(found[:3])}; {cure}, or go on with what "
            f"is here: {ACCEPT}"
        )


def _restore(workdir: Path, folder: Path, accept: bool) -> None:
    """Gives `folder` the files that it lacks, from the checkpoints of `workdir`."""
    there = origin.read_tokenizer(folder)
    lost = [name for name in _recorded(workdir) if name not in there]
    if not lost and (there or not _checkpoints(workdir)):
        return
    for checkpoint, files in origin.kept_tokenizers(workdir):
        try:
            origin.write_tokenizer(folder, files)
        except OSError as error:
            raise UserError(f"{folder} cannot be written: {error.strerror or error}") from error
        say(f"{folder}: {'the lost folder' if not there else ', '.join(lost)} is restored from {checkpoint}")
        return
    if not accept:
        raise UserError(
            f"{folder} {'is lost' if not there else f'has lost {lost[0]}'}, and no checkpoint in {workdir} holds a "
            f"whole copy; put it back from a backup, or go on with a new one: {ACCEPT}"
        )


def _checkpoints(workdir: Path) -> list[Path]:
    """The newest whole checkpoint of each stage."""
    folder = workdir / "checkpoints"
    stages = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return [newest[1] for stage in stages if (newest := origin.newest(stage)) is not None]


def _recorded(workdir: Path) -> dict[str, Print]:
    """The fingerprints of the tokenizer's files in the newest record; {} without one."""
    for checkpoint in _checkpoints(workdir):
        record = origin.read(checkpoint)
        if record is not None and record.parts.get(origin.TOKENIZER):
            return record.parts[origin.TOKENIZER]
    return {}

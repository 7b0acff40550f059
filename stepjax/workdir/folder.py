"""A work directory: created or continued, by one process at a time, with the options it was started with."""

import errno
import fcntl
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from stepjax.errors import UserError
from stepjax.options.saved import CONFIG as CONFIG

LOCK, PARTIAL = ".lock", "config.json.partial"
OPENED = (CONFIG, LOCK, PARTIAL)
"""What opening a work directory writes."""

_UNSET = object()

_held: dict[Path, list[int]] = {}
"""Work directories locked by this process: [file descriptor, how many times it was opened]."""


@contextmanager
def open_workdir(
    path: Path | str,
    config: Mapping[str, Any],
    resumable: Collection[str] = (),
    *,
    record: bool = True,
    primary: bool = True,
    default: Callable[[str], Any] | None = None,
) -> Iterator[Path]:
    """Opens a work directory for the time of the `with` block and locks it against other processes.

    A new folder gets `config.json`. An existing one is continued if its options are the same. Where a UserError ends
    the block of a folder that this call made or began, and nothing was written there since, it is as it was before.

    Args:
      path: the folder; missing, empty, or a work directory.
      config: nested options, JSON-able.
      resumable: dotted names of options that may change when a run is continued; one that ends in "." stands for all
        below it. Where only those changed, config.json takes the new values.
      record: False for a command that leaves the options of an existing folder as they are: it measures or exports,
        with options of its own that later commands do not go on with.
      default: of an option by its dotted name (KeyError: it has none). An older work directory, from before there was
        such an option, counts as started with it.
      primary: False on the other processes of a multi-host run, which neither check nor lock the folder.

    Raises:
      UserError: the folder holds something else or other options, cannot be written, or is in use.
    """
    folder = Path(path).absolute()
    if not primary:
        yield folder
        return
    made = _missing(folder)
    try:
        _check(folder)
        fresh = not (folder / CONFIG).exists()
        folder.mkdir(parents=True, exist_ok=True)
        _lock(folder)
    except OSError as error:
        raise _unusable(folder, error) from error
    try:
        try:
            _compare_and_write(folder, config, resumable, default, record)
        except OSError as error:
            raise _unusable(folder, error) from error
        yield folder
    except UserError:
        if fresh:
            _take_back(folder, made)
        raise
    finally:
        _unlock(folder)


def _missing(folder: Path) -> list[Path]:
    """The folder and those above it that are not there yet, the deepest first."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


def _take_back(folder: Path, made: Sequence[Path]) -> None:
    """Removes what opening a new work directory wrote, and the folders that it made, if nothing else is there."""
    with suppress(OSError):
        if any(entry.name not in OPENED for entry in folder.iterdir()):
            return
        for name in (CONFIG, PARTIAL, LOCK):  # the lock last: whoever waits for it finds no options
            (folder / name).unlink(missing_ok=True)
        for path in made:
            path.rmdir()


def _unusable(folder: Path, error: OSError) -> UserError:
    return UserError(f"work directory {folder} cannot be used: {error.strerror}; use another --workdir")


def _check(folder: Path) -> None:
    """Refuses a folder that is not a work directory, before anything is written there."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"work directory {folder} is a file; use another --workdir")
    if folder.is_dir() and not (folder / CONFIG).exists():
        # A start that was killed at once may have left only the lock.
        other = sorted(entry.name for entry in folder.iterdir() if entry.name not in (LOCK, PARTIAL))
        if other:
            raise UserError(
                f"{folder} holds {other[0]} but no {CONFIG}, so it is not a work directory; use another --workdir"
            )


def _lock(folder: Path) -> None:
    if folder in _held:  # a later stage of the same command
        _held[folder][1] += 1
        return
    file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            holder = os.read(file, 100).decode("utf-8", errors="replace").strip() or "unknown"
            os.close(file)
            raise UserError(
                f"work directory {folder} is in use by process {holder}; wait for it, or use another --workdir"
            ) from None
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            os.close(file)
            raise
        # A network file system without locks: run without the guard.
    if not _is_at(file, folder / LOCK):  # a command that was refused has just taken it away
        os.close(file)
        raise UserError(f"work directory {folder} was removed by another command; start this one again")
    os.ftruncate(file, 0)
    os.write(file, f"{os.getpid()} on {os.uname().nodename}\n".encode())
    _held[folder] = [file, 1]


def in_use(folder: Path) -> bool:
    """Whether another process holds the work directory now."""
    try:
        file = os.open(folder / LOCK, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EWOULDBLOCK, errno.EACCES)
    finally:
        os.close(file)
    return False


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def _unlock(folder: Path) -> None:
    _held[folder][1] -= 1
    if _held[folder][1] == 0:
        os.close(_held.pop(folder)[0])  # and with it the lock; the file stays, removing it would race with the next one


def _forget_in_child() -> None:
    # A forked worker shares the lock: while it lived, the lock would outlast a killed parent.
    for file, _ in _held.values():
        os.close(file)
    _held.clear()


os.register_at_fork(after_in_child=_forget_in_child)


def _compare_and_write(
    folder: Path,
    options: Mapping[str, Any],
    resumable: Collection[str],
    default: Callable[[str], Any] | None,
    record: bool,
) -> None:
    path, config = folder / CONFIG, json.loads(json.dumps(options))
    if path.exists():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(before, dict):
                raise ValueError("not a JSON object")
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} cannot be read ({error}); repair it, or use another --workdir") from error
        theirs, now = _flat(before), _flat(config)
        if before != config:
            gone = [] if default is None else [n for n in theirs if n not in now and not _known(n, default)]
            if gone and record:
                raise UserError(
                    f"work directory {folder} was started with {gone[0]}={_shown(theirs, gone[0])}, an option that "
                    "this version does not have; go on with the version that began it, or use another --workdir"
                )
            kept = {name: value for name, value in theirs.items() if name not in gone}
            _refuse_changes(folder, {**_defaults(now, default), **kept}, now, resumable)
        if before == config or not record:
            return
    partial = folder / PARTIAL
    with open(partial, "w", encoding="utf-8") as file:
        json.dump(config, file, indent=2, sort_keys=True, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def _known(name: str, default: Callable[[str], Any]) -> bool:
    try:
        default(name)
    except KeyError:
        return False
    return True


def _defaults(names: Iterable[str], default: Callable[[str], Any] | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if default is None:
        return found
    for name in names:
        with suppress(KeyError):
            found[name] = json.loads(json.dumps(default(name)))
    return found


def _refuse_changes(
    folder: Path, before: Mapping[str, Any], now: Mapping[str, Any], resumable: Collection[str]
) -> None:
    names = [*before, *(name for name in now if name not in before)]
    changed = [
        f"{name} ({_shown(before, name)} there, {_shown(now, name)} here)"
        for name in names
        if before.get(name, _UNSET) != now.get(name, _UNSET) and not _may_change(name, resumable)
    ]
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise UserError(
            f"work directory {folder} was started with other options: {', '.join(changed[:3])}{more}; "
            "use another --workdir, or leave out --config and these options to go on with those it was started with"
        )


def _may_change(name: str, resumable: Collection[str]) -> bool:
    return name in resumable or any(name.startswith(prefix) for prefix in resumable if prefix.endswith("."))


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"ppo": {"gamma": 1.0}} as {"ppo.gamma": 1.0}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _shown(options: Mapping[str, Any], name: str) -> str:
    if name not in options:
        return "unset"
    text = json.dumps(options[name], ensure_ascii=False)
    return text if len(text) <= 60 else text[:60] + " ..."

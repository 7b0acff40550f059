"""A work directory: created or continued, by one process at a time, with the options it was started with."""

import errno
import fcntl
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from stepjax.errors import UserError

CONFIG, LOCK, PARTIAL = "config.json", ".lock", "config.json.partial"

_UNSET = object()

_held: dict[Path, list[int]] = {}
"""Work directories locked by this process: [file descriptor, how many times it was opened]."""


@contextmanager
def open_workdir(
    path: Path | str,
    config: Mapping[str, Any],
    resumable: Collection[str] = (),
    *,
    primary: bool = True,
    default: Callable[[str], Any] | None = None,
) -> Iterator[Path]:
    """Opens a work directory for the time of the `with` block and locks it against other processes.

    A new folder gets `config.json`. An existing one is continued if its options are the same.

    Args:
      path: the folder; missing, empty, or a work directory.
      config: nested options, JSON-able.
      resumable: dotted names of options that may change when a run is continued; one that ends in "." stands for all
        below it. Where only those changed, config.json takes the new values.
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
    try:
        _check(folder)
        folder.mkdir(parents=True, exist_ok=True)
        _lock(folder)
    except OSError as error:
        raise _unusable(folder, error) from error
    try:
        try:
            _compare_and_write(folder, json.loads(json.dumps(config)), resumable, default)
        except OSError as error:
            raise _unusable(folder, error) from error
        yield folder
    finally:
        _unlock(folder)


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
    os.ftruncate(file, 0)
    os.write(file, f"{os.getpid()} on {os.uname().nodename}\n".encode())
    _held[folder] = [file, 1]


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
    folder: Path, config: dict[str, Any], resumable: Collection[str], default: Callable[[str], Any] | None
) -> None:
    path = folder / CONFIG
    if path.exists():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(before, dict):
                raise ValueError("not a JSON object")
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} cannot be read ({error}); repair it, or use another --workdir") from error
        if before == config:
            return
        now = _flat(config)
        _refuse_changes(folder, {**_defaults(now, default), **_flat(before)}, now, resumable)
    partial = folder / PARTIAL
    with open(partial, "w", encoding="utf-8") as file:
        json.dump(config, file, indent=2, sort_keys=True, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


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
            "use another --workdir, or give the options it was started with"
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

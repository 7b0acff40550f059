"""Checkpoints of a stage: written in the background, committed by one rename, read back into any sharding.

A checkpoint is `<directory>/<step>/`. Orbax writes the arrays to `<step>.partial/`, the manifest follows, and a rename
makes it a checkpoint; so a process killed at any moment leaves whole checkpoints and, at worst, a `.partial` folder
that the next start removes.
"""

import json
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import jax

from stepjax.distributed.agree import agree, all_agree
from stepjax.errors import UserError, as_line
from stepjax.workdir import checkpoint_format as fmt
from stepjax.workdir.array_store import read_arrays, start_writing


def _named(steps: list[int]) -> str:
    return f"step{'s' if len(steps) > 1 else ''} {', '.join(map(str, steps))}"


def _to_stderr(notice: str) -> None:
    print(as_line(notice), file=sys.stderr, flush=True)


class Checkpoints:
    """The checkpoints of one stage, `{"state": arrays, "host": JSON}` each; one save is in flight at most.

    Every process of a multi-host run makes the same calls in the same order, on a file system that all of them share;
    process 0 lists, commits and deletes checkpoints.
    """

    _writing: ClassVar[set[Path]] = set()
    """Folders being written, of all stages: another `Checkpoints` on the same stage must not remove them."""

    def __init__(
        self,
        directory: Path | str,
        *,
        keep: int = 2,
        notify: Callable[[str], None] = _to_stderr,
        origin: Callable[[Path], None] | None = None,
    ):
        """Opens the folder, if there is one, and removes the remains of a killed save.

        Args:
          directory: `workdir/checkpoints/<stage>`.
          keep: how many of the newest checkpoints stay, at least 1.
          notify: takes the notice that a damaged checkpoint was passed over.
          origin: writes what a checkpoint is made of into its folder; called by process 0, before the manifest.
        """
        if keep < 1:
            raise UserError(f"checkpoints to keep: {keep} given, at least 1 is needed to resume a run")
        # Absolute: a later change of the current folder must not move the checkpoints.
        self.directory = Path(directory).absolute()
        self._keep = keep
        self._notify, self._origin = notify, origin
        self._primary = jax.process_index() == 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None
        if self._primary and self.directory.is_dir():
            try:
                fmt.clean(self.directory, spare=Checkpoints._writing)
            except OSError as error:
                raise UserError(f"checkpoints in {self.directory} cannot be used: {fmt.reason(error)}") from error
        agree(0)  # no process reads the folder before it is clean

    def latest(self) -> int | None:
        """The step of the newest checkpoint whose files are complete (`restore` reads them), None without one."""
        self.wait()
        found = fmt.newest_whole(self.directory) if self._primary else None
        step = agree(-1 if found is None else found)
        return None if step < 0 else step

    def save(self, step: int, state: Any, host: dict[str, Any]) -> None:
        """Starts to write a checkpoint; once it returns, the arrays of `state` may be donated or deleted.

        A checkpoint of a later step was written before the run went back to an earlier one, and is removed;
        one of the same step is replaced.

        Args:
          step: number of the checkpoint, not negative.
          state: pytree of `jax.Array`s in any shardings; random keys as `jax.random.key_data`.
          host: JSON-able: the position in the data, counts, offsets.

        Raises:
          UserError: this save cannot start, or the one before it failed in the background (disk full, ...).
        """
        self.wait()
        host = json.loads(json.dumps(host))  # a copy: the caller may go on changing its dict
        leaves = fmt.named_leaves(state)
        partial = self.directory / f"{step}{fmt.PARTIAL}"
        try:
            if self._primary:
                self.directory.mkdir(parents=True, exist_ok=True)
                for later in (s for s in fmt.steps(self.directory) if s > step):
                    fmt.remove(self.directory / str(later))
            Checkpoints._writing.add(partial)
            finish = start_writing(partial, leaves)
        except (OSError, ValueError) as error:
            self._end(partial, whole=False)
            raise self._write_error(step, error) from error
        self._pending = self._thread.submit(self._commit, finish, step, host, fmt.describe(leaves))

    def _commit(self, finish: Callable[[], None], step: int, host: Any, leaves: dict[str, str]) -> None:
        """In the background: waits for the arrays, completes the folder, gives it its name, drops the oldest."""
        partial, final = self.directory / f"{step}{fmt.PARTIAL}", self.directory / str(step)
        try:
            finish()
            if self._primary:
                if self._origin is not None:
                    self._origin(partial)
                fmt.write_manifest(partial, step, host, leaves)
                if final.exists():
                    fmt.remove(final)  # killed here, the next start finds `partial` whole and gives it its name
                partial.rename(final)
                fmt.sync_folder(self.directory)
                for old in fmt.steps(self.directory)[: -self._keep]:
                    fmt.remove(self.directory / str(old))
        except Exception as error:
            self._end(partial, whole=False)
            raise self._write_error(step, error) from error
        self._end(partial, whole=True)

    def _end(self, partial: Path, *, whole: bool) -> None:
        if not whole and self._primary:
            fmt.discard(partial)
        Checkpoints._writing.discard(partial)

    def wait(self) -> None:
        """Waits for the save in flight; raises the UserError of one that failed, once."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def raise_failed(self) -> None:
        """Raises the UserError of a save that has failed by now; does not wait."""
        if self._pending is not None and self._pending.done():
            self.wait()

    def restore(self, step: int | None, abstract_state: Any) -> tuple[Any, dict[str, Any]]:
        """The arrays, in the shardings asked for (on any mesh), and the host's part of a checkpoint.

        Args:
          step: which one; None for the newest. If the newest is damaged, the one before it
            is read, with a notice: the position is that in `host`, not that of `latest`.
          abstract_state: pytree of `jax.ShapeDtypeStruct`s with shardings, of the same structure as the saved state.

        Raises:
          UserError: no such checkpoint, no whole checkpoint, or its leaves are not those of `abstract_state`.
        """
        self.wait()
        agree(0)  # no process reads the folder before process 0 has committed
        found = fmt.steps(self.directory)
        if step is not None and step not in found:
            raise UserError(f"{self.directory} has no checkpoint of step {step}; it has {found or 'none'}")
        if not found:
            raise UserError(f"{self.directory} has no checkpoint to resume from; start the stage without resuming")
        reasons = []
        for candidate in [step] if step is not None else reversed(found):
            folder = self.directory / str(candidate)
            try:
                return self._read(folder, abstract_state)
            except fmt.DamagedError as error:
                reasons.append(f"{candidate}: {error}")
                if step is None and candidate != found[0] and self._primary:
                    self._notify(f"Checkpoint {folder} is damaged ({error}): trying the one before it.")
        raise UserError(
            f"no whole checkpoint in {self.directory} ({'; '.join(reasons)}): remove the damaged folder to start over"
        )

    def resume(self, abstract_state: Any) -> tuple[Any, dict[str, Any]] | None:
        """`restore` of the newest checkpoint; None where there is none, with a notice where all are damaged."""
        if self.latest() is not None:
            return self.restore(None, abstract_state)
        if (damaged := fmt.steps(self.directory)) and self._primary:
            self._notify(f"No checkpoint in {self.directory} is whole ({_named(damaged)}): the stage starts over.")
        return None

    def _read(self, folder: Path, abstract_state: Any) -> tuple[Any, dict[str, Any]]:
        wanted = fmt.named_leaves(abstract_state)
        damage: fmt.DamagedError | None = None
        try:
            manifest = fmt.read_manifest(folder)
            if different := fmt.difference(manifest["leaves"], fmt.describe(wanted)):
                raise UserError(
                    f"checkpoint {folder} is of another model or optimiser: {different}; "
                    "give the options it was written with, or use another --workdir"
                )
            arrays = read_arrays(folder, wanted)
        except fmt.DamagedError as error:
            damage = error
        if not all_agree(damage is None):  # every process falls back, or none
            raise damage or fmt.DamagedError("another process could not read it")
        return jax.tree.unflatten(jax.tree.structure(abstract_state), list(arrays.values())), manifest["host"]

    def restore_part(self, key_path: tuple[str, ...], abstract: Any) -> Any:
        """`restore_params` of this stage's newest whole checkpoint."""
        self.wait()
        agree(0)
        return restore_params(self.directory, key_path, abstract, notify=self._notify)

    def _write_error(self, step: int, error: BaseException) -> UserError:
        return UserError(
            f"checkpoint of step {step} could not be written to {self.directory}: {fmt.reason(error)}; earlier ones "
            "are whole: free space or repair the disk, then run the same command again"
        )

    def close(self) -> None:
        """Waits for the save in flight and ends the background thread."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except UserError as failed:
            if error is None:
                raise
            self._notify(str(failed))  # must not hide the error that ends the run


def restore_params(
    path: Path | str, key_path: tuple[str, ...], abstract: Any, *, notify: Callable[[str], None] = _to_stderr
) -> Any:
    """Reads one sub-tree of another stage's checkpoint.

    Args:
      path: a stage's checkpoints (`workdir/checkpoints/sft`: its newest whole one is taken) or one step's folder.
      key_path: where the sub-tree lies in the saved state: `("policy", "params")`.
      abstract: pytree of `jax.ShapeDtypeStruct`s with shardings; element types are converted on the way.
      notify: takes the notice that a damaged checkpoint was passed over.

    Raises:
      UserError: no whole checkpoint there, or the leaves below `key_path` are not those of `abstract`.
    """
    folder = Path(path).absolute()
    if not (folder / fmt.MANIFEST).exists():
        step, found = fmt.newest_whole(folder), fmt.steps(folder)
        if step is None:
            raise UserError(
                f"{folder} holds no whole checkpoint; give .../checkpoints/<stage> or one step's folder in it"
            )
        if step != found[-1] and jax.process_index() == 0:
            notify(f"Checkpoint {folder / str(found[-1])} is damaged: reading that of step {step} instead.")
        folder /= str(step)
    wanted = {key_path + name: leaf for name, leaf in fmt.named_leaves(abstract).items()}
    try:
        saved, prefix = fmt.read_manifest(folder)["leaves"], "".join(f"{key}/" for key in key_path)
        below = {name: text for name, text in saved.items() if name.startswith(prefix)}
        if different := fmt.difference(below, fmt.describe(wanted), cast=True):
            raise UserError(
                f"{prefix or 'state'} of checkpoint {folder} does not fit this model: {different}; "
                "give the options of the model that it was written with"
            )
        arrays = read_arrays(folder, wanted)
    except fmt.DamagedError as error:
        raise UserError(
            f"checkpoint {folder} is damaged: {error}; its stage, run again, continues from the one before it"
        ) from error
    return jax.tree.unflatten(jax.tree.structure(abstract), list(arrays.values()))

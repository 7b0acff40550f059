"""The policy as a Hugging Face folder, every few rounds of PPO, for software that reads it while the run goes on."""

import shutil
from pathlib import Path

import jax

from stepjax.distributed.agree import agree
from stepjax.errors import UserError
from stepjax.models.definition import Params
from stepjax.parallel import is_main_process
from stepjax.runs.export import EXPORTED, write_policy
from stepjax.runs.setup import Run
from stepjax.workdir.checkpoint_format import reason, remove, sync_folder

_PARTIAL = ".partial"


class PolicyExports:
    """`exported/ROUND`, each written under another name and then renamed: a reader finds all of it, or nothing.

    A run that is continued before a round whose policy is there leaves it as it is; it comes to the same one again.
    """

    def __init__(self, run: Run):
        """`run`: as stage ppo sees it. Removes what a killed run left half written."""
        self._run, self._options = run, run.config.ppo
        self.folder = run.workdir / EXPORTED
        if is_main_process():
            for rest in self.folder.glob("*.*"):
                if rest.name.partition(".")[0].isdecimal():
                    shutil.rmtree(rest, ignore_errors=True)

    def due(self, step: int) -> bool:
        """Whether the policy after a round is to be written and is not there yet; the same on every process."""
        every = self._options.export_every
        return bool(every and step % every == 0) and not agree(int((self.folder / str(step)).exists()))

    def write(self, step: int, params: Params) -> None:
        """Writes all parameters of the policy; every process calls it. UserError where the disk does not take them."""
        partial = self.folder / f"{step}{_PARTIAL}"
        with jax.transfer_guard("allow"):
            write_policy(self._run, partial, params)
        if is_main_process():
            try:
                partial.rename(self.folder / str(step))
                sync_folder(self.folder)
                written = self._written()
                for old in written[: -self._options.export_keep] if self._options.export_keep else []:
                    remove(old)
            except OSError as error:
                raise UserError(f"{self.folder} cannot be written: {reason(error)}") from error

    def _written(self) -> list[Path]:
        """The folders that are whole, in the order of their rounds."""
        return sorted(
            (path for path in self.folder.iterdir() if path.name.isdecimal()), key=lambda path: int(path.name)
        )

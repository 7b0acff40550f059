"""Data sets of the Hugging Face hub, and folders in its layout: the files of a subset and a split on this machine."""

import glob
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stepjax.data.dataset import INFO
from stepjax.data.hub_layout import README, split_files
from stepjax.data.rows import ENDINGS
from stepjax.errors import UserError

CONVERTED = "refs/convert/parquet"
"""The branch where the hub keeps Parquet files of data sets that are in other formats; one folder a subset."""


def folder_files(folder: Path, subset: str, split: str) -> list[Path]:
    """Files of a split in a folder that is laid out as on the hub. UserError where there are none."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    if nested := sorted(path.parent for path in folder.rglob(INFO)):
        raise UserError(f"{folder}: not a folder of problems; did you mean {nested[0]}?")
    if not any(name.endswith(ENDINGS) for name in names):
        raise UserError(f"{folder}: not a folder of problems; it holds no {', '.join(ENDINGS)} file")
    _, files = split_files(names, _metadata(folder / README), subset, split, str(folder))
    return [folder / name for name in files]


def hub_files(name: str, subset: str, split: str) -> dict[str, Path]:
    """Files of a split of a hub data set, by their names there: downloaded, or without a network those of its cache.

    Args:
      name: `owner/name`, or `owner/name@revision`.
      subset: a subset (configuration) of it; "" for the default or only one.

    Raises:
      UserError: neither the hub nor the cache has the data set, the subset or the split.
    """
    repository, _, revision = name.partition("@")
    names, cached = _listing(repository, revision)
    if not any(file.endswith(ENDINGS) for file in names) and not revision:
        revision = CONVERTED
        names, cached = _listing(repository, revision)
    head: Mapping[str, Any] = {}
    if README in names:
        head = _metadata(_snapshot(repository, revision, [README], cached) / README)
    where = f"hub:{name}"
    _, files = split_files(names, head, subset, split, where)
    folder = _snapshot(repository, revision, files, cached)
    if missing := [file for file in files if not (folder / file).is_file()]:
        raise UserError(f"{where}: {missing[0]} is not in the cache, and the hub cannot be reached")
    return {file: folder / file for file in files}


def _listing(repository: str, revision: str) -> tuple[list[str], bool]:
    """All files of a data set, and whether they are those of the cache because the hub gave no answer."""
    from huggingface_hub import HfApi

    try:
        with quiet_hub():
            return HfApi().list_repo_files(repository, repo_type="dataset", revision=revision or None), False
    except Exception as error:  # network, authorisation, names: any error of the client
        try:
            folder = _snapshot(repository, revision, None, cached=True)
        except UserError:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"hub:{repository}: the hub does not give this data set ({first[:200]})") from None
        return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()], True


@contextmanager
def quiet_hub() -> Iterator[None]:
    """Inside, the hub's client does not report its attempts: without a network that is a dozen lines before ours."""
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def _snapshot(repository: str, revision: str, names: list[str] | None, cached: bool) -> Path:
    from huggingface_hub import snapshot_download

    wanted = None if names is None else [glob.escape(name) for name in names]
    try:
        with quiet_hub():
            folder = snapshot_download(
                repository,
                repo_type="dataset",
                revision=revision or None,
                allow_patterns=wanted,
                local_files_only=cached,
            )
        return Path(folder)
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"hub:{repository}: cannot be downloaded ({first[:200]})") from None


def _metadata(readme: Path) -> Mapping[str, Any]:
    """What stands at the head of a README; {} where there is nothing readable."""
    from huggingface_hub import metadata_load

    try:
        return metadata_load(readme) or {} if readme.is_file() else {}
    except Exception as error:  # a damaged head may raise any error of the YAML library
        raise UserError(f"{readme}: its head is not readable YAML ({str(error).splitlines()[0][:100]})") from None

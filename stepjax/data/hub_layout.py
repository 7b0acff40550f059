"""Which files of a data set in the hub's layout belong to a subset and a split: by its README, or by names."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from stepjax.data.rows import ENDINGS
from stepjax.errors import UserError

README = "README.md"
_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""A split, and the words for it in names of files and folders."""

_NO_DATA = re.compile(r"(?:^|/)(?:\.|dataset_infos?\.json$)")


def split_files(
    names: Iterable[str], metadata: Mapping[str, Any], subset: str, split: str, where: str
) -> tuple[str, list[str]]:
    """A split's name there and its files, sorted.

    Args:
      names: all files, relative to the data set's folder, with `/`.
      metadata: what stands at the head of its README.
      subset: its name; "" for the default or only one.
      split: its name, or another word for it (`valid` for `validation`).
      where: the data set, as errors name it.

    Raises:
      UserError: there is no such subset or split, which names those that there are, or its files are of another format.
    """
    names = sorted(names)
    found = {name: files for name, files in _splits(names, metadata, subset, where).items() if files}
    chosen = split if split in found else next((name for name in found if split in _WORDS.get(name, ())), None)
    if chosen is None:
        raise UserError(f"{where}: no split {split!r}; there {_list(found)}")
    readable = [name for name in found[chosen] if name.endswith(ENDINGS)]
    if not readable:
        raise UserError(f"{where}: split {split!r} is in {found[chosen][0]}; {', '.join(ENDINGS)} can be read")
    return chosen, readable


def _splits(names: Sequence[str], metadata: Mapping[str, Any], subset: str, where: str) -> dict[str, list[str]]:
    subsets = {str(c["config_name"]): c for c in metadata.get("configs") or () if "config_name" in c}
    if not subsets:
        folder = f"{subset}/" if subset else ""
        if folder and not any(name.startswith(folder) for name in names):
            raise UserError(f"{where}: no subset {subset!r}; there {_list(n.split('/')[0] for n in names if '/' in n)}")
        return _by_names(names, folder)
    if not subset:
        default = [name for name, c in subsets.items() if c.get("default") or name == "default"]
        if not default and len(subsets) > 1:
            raise UserError(
                f"{where}: name one of its subsets ({', '.join(subsets)}), as in {where}:{next(iter(subsets))}"
            )
        subset = (default or [*subsets])[0]
    if subset not in subsets:
        raise UserError(f"{where}: no subset {subset!r}; there {_list(subsets)}")
    folder = str(subsets[subset].get("data_dir") or "").strip("/")
    folder = f"{folder}/" if folder else ""
    files = subsets[subset].get("data_files")
    if not files:
        return _by_names(names, folder)
    if isinstance(files, dict):
        files = [{"split": name, "path": path} for name, path in files.items()]
    entries = files if isinstance(files, list) else [files]
    found: dict[str, list[str]] = {}
    for entry in entries:
        split, paths = (entry["split"], entry["path"]) if isinstance(entry, dict) else ("train", entry)
        patterns = [_pattern(folder + path) for path in ([paths] if isinstance(paths, str) else paths)]
        found.setdefault(split, []).extend(name for name in names if any(p.fullmatch(name) for p in patterns))
    return found


def split_of(name: str) -> str:
    """The split of a file by the words in its name; train where it has none."""
    return next((split for split, files in _by_names([name], "").items() if files), "train")


def _by_names(names: Sequence[str], folder: str) -> dict[str, list[str]]:
    """Splits by the words in the names of files and folders; all is the split train where no name has one."""
    within = [
        name for name in names if name.startswith(folder) and name.endswith(ENDINGS) and not _NO_DATA.search(name)
    ]
    found: dict[str, list[str]] = {}
    for split, words in _WORDS.items():
        word = re.compile(rf"(?<![a-z])({'|'.join(words)})(?![a-z])", re.I)
        found[split] = [name for name in within if word.search(name.removeprefix(folder))]
    return found if any(found.values()) else {"train": within}


def _pattern(path: str) -> re.Pattern[str]:
    """A path with `*` (no folder border) and `**`, as a regular expression."""
    parts = re.split(r"(\*\*/?|\*|\?)", path.removeprefix("./"))
    meaning = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(meaning.get(part) or re.escape(part) for part in parts))


def _list(names: Iterable[str]) -> str:
    found = list(dict.fromkeys(names))
    return f"{'are' if len(found) > 1 else 'is'} {', '.join(found) or 'none'}"

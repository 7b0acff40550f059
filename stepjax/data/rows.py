"""Rows of a dataset's files, one at a time: JSON Lines (plain or gzip), JSON arrays, Parquet; files and folders."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from stepjax.data.jsonl import read_jsonl
from stepjax.errors import UserError

ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".parquet")
_PIECE = 1 << 20
_LARGEST_ROW = 64 << 20  # characters of one array element that are held at most

Bad = Callable[[UserError, str], None]
"""Takes the error of a row that cannot be used, and the row's text."""


class Row(NamedTuple):
    """A row and its place, `file:line` (in Parquet, the row's number from 1)."""

    place: str
    value: dict[str, Any]


def data_files(path: str | Path) -> list[Path]:
    """The file, or a folder's files of known endings, sorted by name. UserError where there is none."""
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"config.data.path={path}: no such file or folder")
    found = sorted(entry for entry in path.iterdir() if entry.is_file() and entry.name.endswith(ENDINGS))
    if not found:
        raise UserError(f"config.data.path={path}: the folder holds no {', '.join('*' + e for e in ENDINGS)} file")
    return found


def read_rows(path: Path, bad: Bad | None = None) -> Iterator[Row]:
    """Rows of one file, holding one (in Parquet, one batch) at a time; one that is no object goes to `bad` or stops."""
    if path.name.endswith(".parquet"):
        yield from _parquet(path)
    elif path.suffix == ".json" and _begins_with_bracket(path):
        yield from _array(path, bad)
    else:
        taken = (lambda error, raw: bad(error, raw.decode("utf-8", "replace"))) if bad else None
        for number, value in read_jsonl(path, bad=taken):
            yield Row(f"{path}:{number}", value)


def _begins_with_bracket(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            return file.read(4096).lstrip().startswith("[")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None


def _array(path: Path, bad: Bad | None) -> Iterator[Row]:
    """Elements of a JSON array, decoded as the file is read. Everything after an element that is not JSON is lost."""
    decoder = json.JSONDecoder()
    # Bytes that are not UTF-8 are read as half surrogate pairs, so that the element that holds them can be named.
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        text, line, ended = file.read(_PIECE), 1, False
        at = text.index("[") + 1
        line += text.count("\n", 0, at)

        def more() -> bool:
            nonlocal text, at, ended
            piece = "" if ended else file.read(_PIECE)
            ended = not piece
            text, at = text[at:] + piece, 0
            return bool(piece)

        while True:
            start = at
            while at < len(text) and text[at] in " \t\r\n,":
                at += 1
            line += text.count("\n", start, at)
            if at == len(text):
                if not more():
                    raise UserError(f"{path}:{line}: the array is cut off, its closing bracket is missing")
                continue
            if text[at] == "]":
                return
            where = f"{path}:{line}"
            try:
                value, stop = decoder.raw_decode(text, at)
                if stop == len(text) and more():  # a number may go on in the next piece
                    continue
            except (ValueError, RecursionError) as error:
                if len(text) - at < _LARGEST_ROW and more():
                    continue
                raise UserError(f"{where}: not JSON ({error}); a row of the array must be one JSON object") from None
            if why := _fault(value, raw := text[at:stop]):
                wrong = UserError(f"{where}: {why}")
                if bad is None:
                    raise wrong
                bad(wrong, raw.encode("utf-8", "replace").decode())
            else:
                yield Row(where, value)
            line += text.count("\n", at, stop)
            at = stop


def _fault(value: Any, raw: str) -> str | None:
    """What is wrong with a decoded element; None where it is an object of what JSON and UTF-8 can hold."""
    if not isinstance(value, dict):
        return f"each element must be a JSON object, this one is {type(value).__name__}"
    if raw.isascii() and not any(mark in raw for mark in ("\\u", "NaN", "Infinity")):
        return None
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        return "not UTF-8 text, or an escape \\uD800 to \\uDFFF has no other half"
    except ValueError:
        return "NaN and Infinity are no JSON numbers"
    return None


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=256):
                for value in batch.to_pylist():
                    number += 1
                    yield Row(f"{path}:{number}", value)
    except (OSError, pyarrow.ArrowException, ValueError) as error:  # a ValueError: names and texts that are not UTF-8
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: not a readable Parquet file: {first}") from None

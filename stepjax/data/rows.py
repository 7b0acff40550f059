"""Rows of files, one at a time: JSON Lines, JSON (arrays, lists in an object), both also as gzip, and Parquet."""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from stepjax.data.fields import kind_of
from stepjax.data.jsonl import near, read_jsonl
from stepjax.errors import UserError

ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")
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


def read_rows(path: Path, bad: Bad | None = None, key: str = "", default: str = "train") -> Iterator[Row]:
    """Rows of one file, holding one (in Parquet, one batch) at a time; one that is no object goes to `bad` or stops.

    A JSON file is an array, JSON Lines after all, or one object: that is a row itself, or its rows are a list under one
    of its keys (then the file is held whole). `key` names the list; "": the only one, or `default`.
    """
    if path.name.endswith(".parquet"):
        yield from _parquet(path)
        return
    form = _json_form(path) if path.name.endswith((".json", ".json.gz")) else "lines"
    if form == "array":
        yield from _array(path, bad)
    elif form == "object":
        yield from _of_object(path, key, default)
    else:
        taken = (lambda error, raw: bad(error, raw.decode("utf-8", "replace"))) if bad else None
        for number, value in read_jsonl(path, bad=taken):
            yield Row(f"{path}:{number}", value)


def _open(path: Path) -> IO[str]:
    """Bytes that are not UTF-8 are read as half surrogate pairs, so that the row that holds them can be named."""
    open_text: Any = gzip.open if path.suffix == ".gz" else open
    return open_text(path, "rt", encoding="utf-8-sig", errors="surrogateescape")


def _readable(rows: Callable[..., Iterator[Row]]) -> Callable[..., Iterator[Row]]:
    """The function with one line for a file that cannot be read."""

    def read(path: Path, *rest: Any) -> Iterator[Row]:
        try:
            yield from rows(path, *rest)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None

    return read


def _json_form(path: Path) -> str:
    """How a file begins: as "array", "object" or "lines"."""
    try:
        with _open(path) as file:
            first = next((line for line in file if line.strip()), "").strip()
            if first.startswith("["):
                return "array"
            try:
                json.loads(first)
            except (ValueError, RecursionError):
                return "object" if first == "{" or (first and not first.endswith("}")) else "lines"
            return "lines" if any(line.strip() for line in file) else "object"
    except FileNotFoundError:
        raise UserError(f"{path}: no such file{near(path)}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


@_readable
def _of_object(path: Path, key: str, default: str) -> Iterator[Row]:
    """The rows of a JSON object, whose places are `file:number of the row`."""
    with _open(path) as file:
        raw = file.read()
    try:
        whole = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error})") from None
    if why := _fault(whole, raw):
        raise UserError(f"{path}: {why}")
    lists = [
        name for name, value in whole.items() if isinstance(value, list) and all(isinstance(x, dict) for x in value)
    ]
    if key and key not in lists:
        raise UserError(
            f"{path}: no list of rows {key!r}; there {'are' if lists else 'is'} {', '.join(lists) or 'none'}"
        )
    if not lists:
        yield Row(f"{path}:1", whole)
        return
    full = [name for name in lists if whole[name]] or lists
    key = key or (full[0] if len(full) == 1 else default)
    if key not in lists:
        raise UserError(f"{path}: the object has several lists ({', '.join(lists)}); name one as the split")
    for number, value in enumerate(whole[key], 1):
        yield Row(f"{path}:{number}", value)


@_readable
def _array(path: Path, bad: Bad | None) -> Iterator[Row]:
    """Elements of a JSON array, decoded as the file is read. Everything after an element that is not JSON is lost."""
    decoder = json.JSONDecoder()
    with _open(path) as file:
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
        return f"each element must be a JSON object, this one is {kind_of(value)}"
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

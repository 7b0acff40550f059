"""JSON Lines files, read row by row; errors name file, line and field."""

import difflib
import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Any

from stepjax.errors import UserError

FieldType = type | UnionType

_WORDS = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "an object",
}
_BOM = b"\xef\xbb\xbf"


def read_jsonl(
    path: str | Path,
    *,
    required: Mapping[str, FieldType] | None = None,
    optional: Mapping[str, FieldType] | None = None,
    bad: Callable[[UserError, bytes], None] | None = None,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (line number from 1, row) for each row of a UTF-8 file, reading no more than a line at a time.

    Blank lines are skipped, a byte order mark is allowed; a file named `….gz` is unpacked on the way. A type is a
    Python one or a union of them (`str | int`); `float` admits whole numbers, no number type admits true and false. An
    optional field may be absent or null. A row that is not such an object goes to `bad`, with its error and its bytes,
    where `bad` is given.

    Raises:
      UserError: where the file is missing or unreadable, or (without `bad`) a row is not a JSON object of these fields.
    """
    path = Path(path)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                if number == 1:
                    raw = raw.removeprefix(_BOM)
                if not raw.strip():
                    continue
                try:
                    row = parse_line(raw, where := f"{path}:{number}")
                    _check(row, required or {}, optional or {}, where)
                except UserError as error:
                    if bad is None:
                        raise
                    bad(error, raw)
                    continue
                yield number, row
    except FileNotFoundError:
        raise UserError(f"{path}: no such file{_near(path)}") from None
    except (OSError, EOFError, zlib.error) as error:  # the last two: a gzip file that is cut off or damaged
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def parse_line(raw: bytes, where: str) -> dict[str, Any]:
    """One line as an object; a UserError begins with `where`."""
    cut = not raw.endswith(b"\n")  # only a file's last line can be so, and a whole row may be
    try:
        row = json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
        if b"\\u" in raw:
            # Half a surrogate pair passes as JSON, yet no tokenizer can encode it.
            json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        if cut and error.reason == "unexpected end of data":
            raise UserError(f"{where}: the last row is cut off in the middle; copy the file again") from None
        raise UserError(f"{where}: not UTF-8 text (byte {error.start + 1}); save the file as UTF-8") from None
    except UnicodeEncodeError:
        raise UserError(f"{where}: an escape \\uD800 to \\uDFFF has no other half") from None
    except RecursionError:
        raise UserError(f"{where}: nested too deeply") from None
    except ValueError as error:
        if cut:
            raise UserError(f"{where}: the last row is cut off in the middle, or not JSON: {_short(error)}") from None
        raise UserError(f"{where}: not JSON: {_short(error)}; each line must hold one JSON object") from None
    if not isinstance(row, dict):
        raise UserError(f"{where}: each line must hold one JSON object, this one holds {_kind(row)}")
    return row


def _check(
    row: dict[str, Any], required: Mapping[str, FieldType], optional: Mapping[str, FieldType], where: str
) -> None:
    for name, wanted in (*required.items(), *optional.items()):
        if name not in row:
            if name in required:
                raise UserError(f"{where}: no field {name!r}; the row has {', '.join(map(repr, row)) or 'no fields'}")
        elif not _is(row[name], wanted) and (name in required or row[name] is not None):
            raise UserError(f"{where}: field {name!r} must be {_name(wanted)}, not {_kind(row[name])}")


def _is(value: Any, wanted: FieldType) -> bool:
    kinds = wanted.__args__ if isinstance(wanted, UnionType) else (wanted,)
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, kinds) or (isinstance(value, int) and float in kinds)


def _name(wanted: FieldType) -> str:
    kinds = wanted.__args__ if isinstance(wanted, UnionType) else (wanted,)
    return " or ".join(_WORDS.get(kind, "null" if kind is type(None) else str(kind)) for kind in kinds)


def _kind(value: Any) -> str:
    return "null" if value is None else _WORDS[type(value)]


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _short(error: ValueError) -> str:
    return (
        f"{error.msg.removesuffix(' at')} at column {error.colno}"
        if isinstance(error, json.JSONDecodeError)
        else str(error)
    )


def _near(path: Path) -> str:
    """A hint at the file that may have been meant."""
    if not path.parent.is_dir():
        return f" (there is no folder {path.parent})"
    names = [entry.name for entry in path.parent.iterdir() if entry.is_file()]
    close = difflib.get_close_matches(path.name, names, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(close)}?" if close else ""

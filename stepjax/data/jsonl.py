"""JSON Lines files, read row by row; errors name file, line and field."""

import difflib
import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from stepjax.data.fields import FieldType, check_fields, kind_of
from stepjax.errors import UserError

_BOM = b"\xef\xbb\xbf"


def read_jsonl(
    path: str | Path,
    *,
    required: Mapping[str, FieldType] | None = None,
    optional: Mapping[str, FieldType] | None = None,
    bad: Callable[[UserError, bytes], None] | None = None,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (line number from 1, row) for each row of a UTF-8 file, reading no more than a line at a time.

    Blank lines are skipped, a byte order mark is allowed; a file named `….gz` is unpacked on the way. An optional field
    may be absent or null. A row that is not such an object goes to `bad`, with its error and its bytes,
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
                    check_fields(row, required or {}, optional or {}, where)
                except UserError as error:
                    if bad is None:
                        raise
                    bad(error, raw)
                    continue
                yield number, row
    except FileNotFoundError:
        raise UserError(f"{path}: no such file{near(path)}") from None
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
        raise UserError(f"{where}: each line must hold one JSON object, this one holds {kind_of(row)}")
    return row


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _short(error: ValueError) -> str:
    return (
        f"{error.msg.removesuffix(' at')} at column {error.colno}"
        if isinstance(error, json.JSONDecodeError)
        else str(error)
    )


def near(path: Path) -> str:
    """A hint at the file that may have been meant."""
    if not path.parent.is_dir():
        return f" (there is no folder {path.parent})"
    names = [entry.name for entry in path.parent.iterdir() if entry.is_file()]
    close = difflib.get_close_matches(path.name, names, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(close)}?" if close else ""

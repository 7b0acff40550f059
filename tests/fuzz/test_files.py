"""Files that a run leaves or is given beside its data, with anything in them: labels to be continued, tokenizers."""

import functools
import json
from typing import Any

import pytest
from fuzz.commands import assert_readable, elsewhere, refused
from fuzz.fuzzing import Fuzz
from fuzz.junk import JSON, changed, damaged
from fuzz.test_rows import GOOD, assert_place, encoded, rows, write
from hypothesis import strategies as st
from rewards.prm_references import tokenizer_of

from stepjax.data.schema import LabelledSolution
from stepjax.data.tokenizers import encode, load_tokenizer
from stepjax.errors import UserError
from stepjax.labels.file import LabelFile
from stepjax.steps import StepSplitter

FUZZ = Fuzz(share=0.05)


@functools.cache
def tokenizer_folder() -> dict[str, bytes]:
    """The files of a small tokenizer."""
    with elsewhere() as folder:
        tokenizer_of("qwen").save_pretrained(folder)
        return {path.name: path.read_bytes() for path in folder.iterdir()}


@st.composite
def tokenizer_folders(draw: st.DrawFn) -> dict[str, bytes]:
    """These files, one of them changed, damaged or absent."""
    files = dict(tokenizer_folder())
    name = draw(st.sampled_from(["tokenizer.json", "tokenizer_config.json"]))
    content = files.pop(name)
    if draw(st.integers(0, 9)):
        files[name] = draw(damaged(content) | changed(json.loads(content)).map(encoded))
    return files


@FUZZ.holds(few=15, files=tokenizer_folders())
def a_tokenizer_folder(files: dict[str, bytes]) -> None:
    with elsewhere() as folder:
        for name, content in files.items():
            write(folder, content, name)
        try:
            tokenizer = load_tokenizer(folder)
            for separator in ("\n\n", "ö"):
                StepSplitter(tokenizer, separator).texts(encode(tokenizer, "So.\n\nThen <|im_end|> ö 12"))
        except UserError as error:
            assert "no tokenizer can be loaded from there" in str(error) or assert_readable(refused(error)) is None


MADE_WITH = {"method": "judge", "model": "m", "temperature": 0.0}


@FUZZ.holds(
    few=40,
    row=rows("records"),
    tail=st.binary(max_size=20),
    beside=st.none() | changed(MADE_WITH) | JSON,
    hurt=st.none() | damaged(encoded(MADE_WITH)),
)
def a_label_file_that_is_continued(row: tuple[str, bytes], tail: bytes, beside: Any, hurt: bytes | None) -> None:
    with elsewhere() as folder:
        path = folder / "labels.jsonl"
        first = LabelledSolution.from_json(GOOD["records"] | {"id": "first"})
        with LabelFile(path, MADE_WITH) as file:
            file.append([first])
        path.write_bytes(path.read_bytes() + row[1] + b"\n" + tail.replace(b"\n", b""))
        if beside is not None:
            (folder / "labels.options.json").write_text(json.dumps(beside), encoding="utf-8", errors="surrogatepass")
        elif hurt is not None:
            (folder / "labels.options.json").write_bytes(hurt)
        before = path.read_bytes()
        try:
            with LabelFile(path, MADE_WITH) as file:
                assert "first" in file.done
                file.append([LabelledSolution.from_json(GOOD["records"] | {"id": "last"})])
        except UserError as error:
            assert_place(error, path, row=False)
            assert path.read_bytes() == before
        else:
            whole = path.read_bytes().splitlines(keepends=True)
            assert before.startswith(b"".join(whole[:-1])) and json.loads(whole[-1])["id"] == "last"


@pytest.mark.parametrize("name", FUZZ.names)
def test_a_few(name: str) -> None:
    FUZZ.few(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", FUZZ.names)
def test_for_minutes(name: str) -> None:
    FUZZ.minutes(name)

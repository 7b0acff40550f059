"""Damaged Hugging Face folders: a model is loaded as it stands there, or refused in one line."""

import functools
import json
from pathlib import Path
from typing import Any

import jax
import pytest
from fuzz.commands import assert_readable, elsewhere, refused
from fuzz.fuzzing import Fuzz
from fuzz.junk import changed, damaged
from hypothesis import strategies as st
from rewards.prm_references import save_checkpoint, tokenizer_of

from stepjax.config import Config, ModelOptions
from stepjax.errors import UserError
from stepjax.models.prm_checkpoint import load_prm
from stepjax.parallel import make_mesh
from stepjax.rewards.conventions import CONVENTIONS
from stepjax.rewards.conventions_layout import Layout
from stepjax.runs.start import open_start, recall, remember

FUZZ = Fuzz(share=0.05)

GENERATION = {"eos_token_id": [1, 2], "temperature": 0.6, "do_sample": True}


@functools.cache
def folder_of(name: str) -> dict[str, bytes]:
    """The files of a tiny public reward model."""
    with elsewhere() as folder:
        save_checkpoint(name, folder / "model")
        (folder / "model" / "generation_config.json").write_text(json.dumps(GENERATION))
        return {path.name: path.read_bytes() for path in (folder / "model").iterdir() if path.is_file()}


def hurt_weights(content: bytes) -> st.SearchStrategy[bytes]:
    """A safetensors file whose header or end is changed."""
    size = int.from_bytes(content[:8], "little")
    header, rest = json.loads(content[8 : 8 + size]), content[8 + size :]

    def with_header(new: Any) -> bytes:
        raw = json.dumps(new).encode()
        return len(raw).to_bytes(8, "little") + raw + rest

    return changed(header).map(with_header) | damaged(content) | st.integers(0, len(content)).map(lambda n: content[:n])


@st.composite
def hurt(draw: st.DrawFn) -> tuple[str, str, bytes | None]:
    """A convention, the name of a file of its model, and what it holds now; None: it is absent."""
    name = draw(st.sampled_from(["qwen", "math_shepherd"]))
    file = draw(st.sampled_from(["config.json", "config.json", "model.safetensors", "generation_config.json"]))
    content = folder_of(name)[file]
    if draw(st.integers(0, 9)) == 0:
        return name, file, None
    if file == "model.safetensors":
        return name, file, draw(hurt_weights(content))
    new = changed(json.loads(content)).map(lambda x: json.dumps(x).encode("utf-8", "surrogatepass"))
    return name, file, draw(new | damaged(content))


def write(folder: Path, name: str, file: str, content: bytes | None) -> Path:
    folder.mkdir()
    for other, whole in folder_of(name).items():
        if other != file or content is not None:
            (folder / other).write_bytes(content if other == file and content is not None else whole)
    return folder


@FUZZ.holds(few=20, model=hurt())
def a_checkpoint_to_start_from(model: tuple[str, str, bytes | None]) -> None:
    with elsewhere() as folder:
        path = write(folder / "model", *model)
        try:
            start = open_start(Config(model=ModelOptions(path=str(path))))
            assert start is not None
            remember(start, folder)
            assert recall(folder) is not None
        except UserError as error:
            assert_readable(refused(error))
            assert str(path) in str(error)


@FUZZ.holds(few=6, model=hurt(), cpu=30.0)
def a_public_reward_model(model: tuple[str, str, bytes | None]) -> None:
    with elsewhere() as folder:
        path, convention = write(folder / "model", *model), CONVENTIONS[model[0]]
        layout = Layout(convention, tokenizer_of(model[0]))
        try:
            load_prm(path, make_mesh(1, devices=jax.devices()[:1]), head=convention.head, classes=layout.classes)
        except UserError as error:
            assert_readable(refused(error))
            assert str(path) in str(error)


@pytest.mark.parametrize("name", FUZZ.names)
def test_a_few(name: str) -> None:
    FUZZ.few(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", FUZZ.names)
def test_for_minutes(name: str) -> None:
    FUZZ.minutes(name)

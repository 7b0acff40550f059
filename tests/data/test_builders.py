"""TFDS builders of the public names, on excerpts put there by hand, without a network and without TensorFlow."""

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stepjax.config import DataOptions
from stepjax.data.features import from_row
from stepjax.data.readers import READERS, read_records
from stepjax.data.readers.base import Tally

HERE = Path(__file__).parent
NAMES = sorted(p.name for p in (Path(sys.modules["stepjax"].__file__).parent / "data" / "builders").glob("*_steps"))
EXCERPTS = {
    "prm800k_steps": HERE / "prm800k" / "samples.jsonl",
    "math_shepherd_steps": HERE / "math_shepherd" / "samples.jsonl",
    "gsm8k_steps": HERE / "gsm8k" / "train.jsonl",
    "math500_steps": HERE / "math" / "math500.jsonl",
    "prmbench_steps": HERE / "prmbench" / "samples.jsonl",
}


def builder_class(name):
    return importlib.import_module(f"stepjax.data.builders.{name}.{name}_dataset_builder").Builder


@pytest.mark.parametrize("name", sorted(EXCERPTS))
def test_a_builder_prepares_what_the_reader_reads(name, tmp_path):
    import tensorflow_datasets as tfds

    cls = builder_class(name)
    by_hand = tmp_path / "manual" / name
    by_hand.mkdir(parents=True)
    for files in cls.FILES.values():
        for file in files:
            shutil.copy(EXCERPTS[name], by_hand / file)
    builder = cls(data_dir=str(tmp_path / "data"), file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=str(tmp_path / "manual")))
    for split, files in cls.FILES.items():
        found = [from_row(row) for row in builder.as_data_source(split)]
        wanted = []
        for file in files:
            wanted += read_records(DataOptions(source=cls.SOURCE, path=str(by_hand / file)), Tally())
        assert sorted(found, key=repr) == sorted(wanted, key=repr) and found
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize("name", NAMES)
def test_every_builder_names_its_source_and_addresses(name):
    cls = builder_class(name)
    assert cls.SOURCE in READERS and cls.name == name and cls.HOMEPAGE.startswith("https://")
    addresses = [address for files in cls.FILES.values() for address in files.values()]
    assert addresses and all(address.startswith("https://") for address in addresses)


def test_neither_tensorflow_nor_jax_is_imported_to_convert(tmp_path):
    code = (
        "import sys\nfrom stepjax.cli import main\n"
        f"assert main(['data', '--config.source=prm800k', '--config.path={HERE / 'prm800k'}', "
        f"'--config.out={tmp_path / 'out'}']) == 0\n"
        "assert not {'tensorflow', 'jax', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120)
    assert (tmp_path / "out" / "dataset_info.json").exists()


def test_a_builder_downloads_from_its_addresses(tmp_path, monkeypatch):
    import functools
    import threading
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(HERE / "gsm8k"))
    handler.func.log_message = lambda *_: None
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/train.jsonl"
        cls = builder_class("gsm8k_steps")
        monkeypatch.setattr(cls, "FILES", {"train": {"train.jsonl": address}})
        builder = cls(data_dir=str(tmp_path), file_format="array_record")
        builder.download_and_prepare()
        found = [from_row(row) for row in builder.as_data_source("train")]
        wanted = list(read_records(DataOptions(source="gsm8k", path=str(EXCERPTS["gsm8k_steps"])), Tally()))
        assert {r.problem for r in found} == {r.problem for r in wanted} and len(found) == len(wanted)
    finally:
        server.shutdown()
        server.server_close()

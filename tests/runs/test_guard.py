"""After their first round the loops compile nothing, and nothing crosses between host and device unasked."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs.tiny_run import TinyRun, stepjax

from stepjax.parallel import fetch, make_mesh, only_asked_transfers, put, replicated
from stepjax.workdir.metrics import Metrics

COMPILATION = "/jax/core/compile/backend_compile_duration"  # also where it is read from the cache


@contextmanager
def compilations() -> Iterator[list[str]]:
    """What is compiled meanwhile, by function."""
    found: list[str] = []

    def listen(event: str, seconds: float, **about: str) -> None:
        if event == COMPILATION:
            found.append(about.get("fun_name", "?"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@pytest.fixture
def compiled_by_step(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[tuple[str, int], list[str]]]:
    """What was compiled before each logged step; (stage, 0): before the stage's first."""
    found: dict[tuple[str, int], list[str]] = {}
    guards: list[str] = []
    writing, leaving = Metrics.write, Metrics.__exit__

    def write(self, step, values):
        found[self._stage, step] = names.copy()
        guards.append(jax.config.jax_transfer_guard_host_to_device)
        names.clear()
        writing(self, step, values)

    def leave(self, *error):
        found[self._stage, -1] = names.copy()
        names.clear()
        leaving(self, *error)

    monkeypatch.setattr(Metrics, "write", write)
    monkeypatch.setattr(Metrics, "__exit__", leave)
    with compilations() as names:
        yield found
    assert set(guards) == {"disallow"}, "a step was logged outside the guard"


def test_ppo_compiles_nothing_after_its_first_iteration(
    tiny: TinyRun, tmp_path: Path, compiled_by_step: dict[tuple[str, int], list[str]]
) -> None:
    workdir = tiny.copy(tmp_path / "run", without=("ppo",))
    assert stepjax("ppo", tiny.config, workdir, "--config.ppo.iterations=6") == 0
    first, *later = (names for (stage, _), names in compiled_by_step.items() if stage == "ppo")
    programs = {"jit(rollout)", "jit(score)", "jit(credit)", "jit(update)"}
    assert programs <= set(first), "the four programs, once"
    assert len(later) == 6  # iterations 2 to 6, and after them
    # The first checkpoint (iteration 2) asks for the first time whether the state is finite.
    assert [names for names in later if names] == [["jit(finite)"]]


def test_supervised_training_compiles_nothing_after_its_first_checkpoint(
    tiny: TinyRun, tmp_path: Path, compiled_by_step: dict[tuple[str, int], list[str]]
) -> None:
    config = tiny.with_options(tmp_path, **{"sft.updates": 10, "sft.log_every": 1, "sft.checkpoint_every": 3})
    assert stepjax("sft", config, tmp_path / "run") == stepjax("prm", config, tmp_path / "run") == 0
    for stage, validation in (("sft", ["jit(measure)"]), ("prm", ["jit(make)", "jit(score)"])):
        by_step = {step: names for (name, step), names in compiled_by_step.items() if name == stage}
        assert list(by_step) == [*range(1, 11), -1]
        assert by_step[1].count("jit(update)") == 1
        assert by_step[3] == ["jit(finite)", *validation]  # of the PRM also the key of the held-out responses
        assert not any(names for step, names in by_step.items() if step not in (1, 3))


def test_the_guard_stops_what_was_not_asked_for() -> None:
    mesh = make_mesh(8)
    whole = replicated(mesh)
    add = jax.jit(lambda x, y: x + y)
    x = put(np.ones(8, np.float32), whole)
    y = jnp.ones(8)
    add(x, np.ones(8, np.float32))  # compiled, and allowed out here
    with only_asked_transfers():
        with pytest.raises(Exception, match=re.compile("disallowed host-to-device", re.IGNORECASE)):
            add(x, np.ones(8, np.float32))
        with pytest.raises(Exception, match=re.compile("disallowed", re.IGNORECASE)):
            add(x, y)  # lies on one device only
        assert fetch(put(np.arange(3), whole)).tolist() == [0, 1, 2]

"""SIGTERM: the step is ended and saved, and the same command continues; mishaps of every kind, a few rounds of each."""

import signal
import time
from pathlib import Path

import pytest
from runs.chaos import lines as count
from runs.chaos import rounds, wait
from runs.tiny_run import TinyRun, assert_same_run, lines, start, stepjax


def terminate(process, moment, seconds: float = 30.0) -> tuple[int, str, float]:
    """Sends SIGTERM at the moment; exit status, standard error, seconds that it took."""
    end = time.monotonic() + 240
    try:
        while not moment():
            assert process.poll() is None and time.monotonic() < end, "it ended before the moment came"
            time.sleep(0.005)
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        status, error = wait(process, seconds)
    finally:
        process.kill()
        process.wait()
    return status, error, time.monotonic() - begun


@pytest.mark.slow
def test_sigterm_saves_the_round_and_the_same_command_ends_with_the_same_bits(tiny: TinyRun, tmp_path: Path) -> None:
    workdir = tiny.copy(tmp_path / "run", without=("ppo",))
    # No checkpoint would be due by then.
    process = start("ppo", tiny.config, workdir, "--config.ppo.checkpoint_every=50")
    status, error, _ = terminate(process, lambda: count(workdir, "ppo") >= 3)
    done = lines(workdir, "ppo")[-1]["step"]
    assert status == 75
    assert error == f"stepjax: SIGTERM: PPO round {done} is saved; the same command continues\n"
    assert [x.name for x in (workdir / "checkpoints" / "ppo").iterdir()] == [str(done)] and 3 <= done < 12
    assert stepjax("ppo", tiny.config, workdir) == 0
    assert_same_run(workdir, tiny.workdir, ["ppo"])


@pytest.mark.slow
def test_sigterm_saves_supervised_training(tiny: TinyRun, tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    process = start("sft", tiny.config, workdir)
    status, error, _ = terminate(process, lambda: count(workdir, "sft") >= 2)
    assert status == 75 and " is saved; the same command continues" in error
    assert stepjax("sft", tiny.config, workdir) == 0
    assert_same_run(workdir, tiny.workdir, ["sft"])


@pytest.mark.slow
def test_sigterm_with_nothing_to_save_ends_at_once(tiny: TinyRun, tmp_path: Path) -> None:
    process = start("eval", tiny.config, tiny.copy(tmp_path / "run"), "--config.eval.problems=4000")
    opened = time.monotonic()
    status, error, seconds = terminate(process, lambda: time.monotonic() - opened > 4.0, 10.0)
    assert status in (75, -signal.SIGTERM) and seconds < 10
    assert status != 75 or error.endswith("SIGTERM: stopped; the same command continues\n")


@pytest.mark.slow
def test_a_step_that_does_not_end_in_time_is_given_up(tiny: TinyRun, tmp_path: Path) -> None:
    workdir = tiny.copy(tmp_path / "run", without=("ppo",))
    endless = (
        "import time\nimport stepjax.runs.ppo as ppo\nwhole = ppo.PPO.iterate\n"
        "def iterate(self, state, order, number, *others, **more):\n    if number == 3: time.sleep(100)\n"
        "    return whole(self, state, order, number, *others, **more)\n"
        "ppo.PPO.iterate = iterate\n"
    )
    process = start("ppo", tiny.config, workdir, "--config.distributed.grace=1", prelude=endless)
    status, error, seconds = terminate(process, lambda: count(workdir, "ppo") >= 2)
    assert status == 75 and seconds < 15
    assert "SIGTERM: no step was done and saved within 1 s; the same command continues from the last" in error
    assert stepjax("ppo", tiny.config, workdir) == 0
    assert_same_run(workdir, tiny.workdir, ["ppo"])


@pytest.mark.slow
def test_mishaps_lose_and_repeat_nothing(tiny: TinyRun, tmp_path: Path) -> None:
    workdir = tiny.copy(tmp_path / "run", without=("ppo",))
    rounds(4, 3, lambda prelude: start("ppo", tiny.config, workdir, prelude=prelude), workdir, "ppo")
    assert_same_run(workdir, tiny.workdir, ["ppo"])

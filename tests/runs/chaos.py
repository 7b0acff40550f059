"""Rounds of mishaps on one run: kills, requests to stop, full disks, damaged files. Nothing may be lost or repeated.

    python tests/runs/chaos.py --rounds 20 --seed 0

prints what struck in each round and, at the end, how the run compares with one that nothing happened to. Where a small
tmpfs can be mounted (by root), the disk is really full; elsewhere a limit on the size of files stands in for it.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from stepjax.workdir.checkpoint_format import MANIFEST, newest_whole, read_manifest, steps

Start = Callable[[str], subprocess.Popen]
"""Starts the run in its work directory, with a prelude of Python code."""

MISHAPS = ("kill", "kill", "kill", "sigterm", "disk full", "truncated")
SMALL_FILES = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))\n"


def lines(workdir: Path, stage: str) -> int:
    path = workdir / "metrics.jsonl"
    return sum(f'"stage": "{stage}"' in line for line in path.read_text().splitlines()) if path.exists() else 0


def check_readable(workdir: Path, stage: str) -> int:
    """The newest whole step; every line but the last and every whole checkpoint can be read."""
    text = (workdir / "metrics.jsonl").read_text().splitlines(keepends=True)
    for line in text[:-1]:
        json.loads(line)
    json.loads((workdir / "config.json").read_text())
    return newest_whole(workdir / "checkpoints" / stage) or 0


def truncate(workdir: Path, stage: str, rng: random.Random) -> str:
    """Cuts a file of the newest checkpoint short; nothing where it is the only one."""
    folder = workdir / "checkpoints" / stage
    whole = [step for step in steps(folder) if _is_whole(folder / str(step))]
    if len(whole) < 2:
        return "nothing to truncate"
    files = [p for p in (folder / str(whole[-1])).rglob("*") if p.is_file() and p.stat().st_size > 1]
    path = rng.choice(files)
    size = path.stat().st_size
    os.truncate(path, rng.randrange(size))
    return f"{path.name if path.name == MANIFEST else 'an array file'} of step {whole[-1]} cut to {path.stat().st_size}"


def _is_whole(folder: Path) -> bool:
    try:
        read_manifest(folder)
    except Exception:
        return False
    return True


def wait(process: subprocess.Popen, seconds: float) -> tuple[int, str]:
    """Exit status and what it said on standard error; killed after `seconds`."""
    try:
        _, error = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise AssertionError(f"the run did not end within {seconds:.0f} s") from None
    return process.returncode, error


def strike(mishap: str, start: Start, workdir: Path, stage: str, rng: random.Random) -> str:
    """One start of the run that comes to grief; says how."""
    small = mishap == "disk full" and not _fill(workdir)
    process = start(SMALL_FILES.format(rng.choice([2_000, 20_000, 60_000])) if small else "")
    # Half of the mishaps come at a moment of the start, half while rounds go by.
    more = lines(workdir, stage) + rng.randint(1, 2)
    due = time.monotonic() + (rng.uniform(0.0, 12.0) if rng.random() < 0.4 else 120.0)
    if mishap != "disk full":
        while process.poll() is None and time.monotonic() < due and lines(workdir, stage) < more:
            time.sleep(0.002)
        time.sleep(rng.uniform(0.0, 0.3))
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM if mishap == "sigterm" else signal.SIGKILL)
    status, error = wait(process, 180)
    _empty(workdir)
    said = error.strip().splitlines()[-1][:150] if error.strip() else ""
    told = f"status {status}"
    if mishap == "sigterm":
        took = time.monotonic() - begun
        assert status in (0, 75, -signal.SIGTERM), (status, error)
        assert took < 30, f"SIGTERM took {took:.0f} s"
        told += f" after {took:.1f} s"
    elif mishap == "disk full":
        assert status in (0, 2), (status, error)
        assert "Traceback" not in error, error
    else:
        assert status in (0, -signal.SIGKILL), (status, error)
    if mishap == "truncated":
        told += f"; {truncate(workdir, stage, rng)}"
    return f"{told} {said}".strip()


def _fill(workdir: Path) -> bool:
    """Leaves the file system of `workdir` a few kilobytes, where it is a small one."""
    free = os.statvfs(workdir)
    room = free.f_bavail * free.f_frsize
    if room > 64 << 20:
        return False
    with open(workdir.parent / "filler", "wb") as file:
        file.write(bytes(max(room - 48_000, 0)))
    return True


def _empty(workdir: Path) -> None:
    (workdir.parent / "filler").unlink(missing_ok=True)


def rounds(
    count: int, seed: int, start: Start, workdir: Path, stage: str, say: Callable[[str], None] = print
) -> list[str]:
    """`count` mishaps, then an undisturbed start that must end well; the kinds that struck."""
    rng = random.Random(seed)
    struck = []
    for number in range(1, count + 1):
        mishap = rng.choice(MISHAPS)
        told = strike(mishap, start, workdir, stage, rng)
        whole = check_readable(workdir, stage)
        say(f"{number:2} {mishap:10} {told} | {lines(workdir, stage)} lines, step {whole} is whole")
        struck.append(mishap)
    undisturbed(start(""))
    return struck


def undisturbed(process: subprocess.Popen) -> None:
    """A start of the run that nothing happens to ends well."""
    status, error = wait(process, 600)
    assert status == 0, error


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    from runs.tiny_run import OPTIONS, assert_same_run, write_config
    from runs.tiny_run import start as start_run

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = write_config(folder / "tiny.py", OPTIONS | {"ppo.iterations": 40, "ppo.checkpoint_every": 1})
        disk = folder / "disk"
        disk.mkdir()
        mounted = (
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)], check=False).returncode == 0
        )
        print("disk: a tmpfs of 24 MB" if mounted else "disk: files limited in size")
        try:
            undisturbed(start_run("sft", config, disk / "run"))
            undisturbed(start_run("prm", config, disk / "run"))
            shutil.copytree(disk / "run", folder / "whole")
            undisturbed(start_run("ppo", config, folder / "whole"))
            rounds(
                options.rounds,
                options.seed,
                lambda prelude: start_run("ppo", config, disk / "run", prelude=prelude),
                disk / "run",
                "ppo",
            )
            assert_same_run(disk / "run", folder / "whole", ["ppo"])
            print(
                f"{options.rounds} mishaps: metrics, samples and parameters are, bit by bit, those of a run without any"
            )
        finally:
            if mounted:
                subprocess.run(["umount", "-l", str(disk)], check=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())

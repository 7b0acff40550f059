"""A benchmark from options to figures: one line per repeat, and the medians with the machine's peak rates."""

import dataclasses
import functools
import resource
import statistics
import sys
from typing import Any

import jax
import jax.numpy as jnp

from stepjax.bench.case import Case, Timed
from stepjax.bench.machine import copy_bandwidth, matrix_flops, of_public_figures
from stepjax.bench.profile import profile
from stepjax.bench.shapes import bench_config
from stepjax.config import Config
from stepjax.console.progress import progress
from stepjax.parallel import mesh_of
from stepjax.programs import program_bytes


def measure(config: Config, program: str, *, profiled: bool = False) -> list[dict[str, Any]]:
    """Times a program `config.bench.repeats` times after a warm-up: one mapping per repeat, then the median.

    `profiled`: the three largest costs of each program, from one more run that is traced.
    """
    options = config.bench
    case = Case(bench_config(config, program), mesh_of(config.mesh))
    with progress(f"bench {program}", options.repeats + 1, "runs") as bar:
        case.timed(program, 0)
        bar.advance()
        timed = []
        for repeat in range(options.repeats):
            timed.append(case.timed(program, repeat + 1))
            bar.advance()
    lines = [_line(case, program, repeat + 1, x) for repeat, x in enumerate(timed)]
    last = _summary(case, program, timed)
    if profiled:
        last["profile"] = {}
        for one in case.compiled(program):
            costs = profile(one, functools.partial(case.timed, one.name, 1))
            last["profile"][one.name] = [dataclasses.asdict(share) for share in costs]
    return [*lines, last]


def _line(case: Case, program: str, repeat: int | str, timed: Timed) -> dict[str, Any]:
    """One repeat, in the keys of scripts that time other software; seconds by phase, but one number for a rollout."""
    useful = int(timed.response.sum()) + (0 if program == "rollout" else int(timed.prompt.sum()))
    rate = useful / timed.total
    options = case.options
    line = {
        "peer": "stepjax",
        "program": program,
        "shape": case.config.bench.shape,
        "mean": case.config.bench.mean_length or None,
        "rows": case.programs.rows,
        "samples": options.samples,
        "prompt_tokens": options.prompt_tokens,
        "new_tokens": options.max_new_tokens,
        "repeat": repeat,
        "useful_tokens": useful,
        "seconds": round(timed.total, 4) if program == "rollout" else _rounded(timed.seconds),
        "tokens_per_second": round(rate, 1),
    }
    if program in ("update", "iteration"):
        line["trained_tokens_per_second"] = round(rate * options.epochs, 1)
    return line | {"dtype": str(jnp.dtype(case.run.decoder.dtype)), "jax": jax.__version__}


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {phase: round(s, 4) for phase, s in seconds.items()}


def _summary(case: Case, program: str, timed: list[Timed]) -> dict[str, Any]:
    """The repeat of median speed, with the machine's figures."""
    middle = sorted(timed, key=lambda x: x.response.sum() / x.total)[(len(timed) - 1) // 2]
    line = _line(case, program, "median", middle)
    peak, bandwidth = matrix_flops(case.mesh, case.run.decoder.dtype), copy_bandwidth(case.mesh)
    flops, moved = middle.work.flops / middle.total, middle.work.bytes / middle.total
    whole = middle.prompt.size * (case.options.prompt_tokens + case.options.max_new_tokens)
    programs = case.compiled(program)
    line |= {
        "flops_per_second": flops,
        "matrix_flops": peak,
        "flops_share": flops / peak,
        "bytes_per_second": moved,
        "copy_bandwidth": bandwidth,
        "bytes_share": moved / bandwidth,
        "useful_share": float(middle.prompt.sum() + middle.response.sum()) / whole,
        "compile_seconds": _rounded({p.name: p.compile_seconds or 0.0 for p in programs}),
        "program_bytes": max(program_bytes(p.compile()) for p in programs),
        "resident_bytes": _resident_bytes(),
        "device_bytes": _device_bytes(case),
        "device": f"{case.mesh.size} × {case.mesh.devices.flat[0].device_kind}",
        **of_public_figures(case.mesh.devices.flat, middle.work, middle.total),
    }
    if program in ("rollout", "iteration"):
        used = case.occupancy
        line |= {
            "slots": case.slots,
            "decode_steps": used["steps"],
            "slot_occupancy": used["busy"] / used["offered"] if used["offered"] else None,
            "slot_occupancy_whole": timed[-1].response.sum() / used["total"],
            "cache_tokens": used["cache"] or None,
            "held_tokens": used["tokens"] or None,
            "restarted_tokens": used["restarted"],
        }
    if program == "rollout" and case.options.samples > 1:
        line |= _prefill(case)
    return line


def _prefill(case: Case) -> dict[str, float]:
    """Seconds of the prompts alone, and of the prompts and one token a response; then with one response a prompt."""
    config = case.config
    single = dataclasses.replace(config, ppo=dataclasses.replace(config.ppo, samples=1))
    found = {}
    for name, one in (("", case), ("_one_sample", Case(single, case.mesh))):
        for figure, limit in (("prefill_seconds", 0), ("first_token_seconds", 1)):
            one.prefill(0, limit)
            found[figure + name] = statistics.median(one.prefill(1 + i, limit) for i in range(config.bench.repeats))
    return found | {"prefill_ratio": found["prefill_seconds"] / found["prefill_seconds_one_sample"]}


def _resident_bytes() -> int:
    """The peak memory of this process."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _device_bytes(case: Case) -> int | None:
    """The peak memory of a device; None where the device does not report it."""
    told = [(device.memory_stats() or {}).get("peak_bytes_in_use") for device in case.mesh.local_devices]
    return max((x for x in told if x is not None), default=None)

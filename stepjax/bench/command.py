"""The command line of `stepjax bench`: a program, options, a table for people or JSON lines for scripts."""

import json
import sys
from typing import Any

from stepjax.errors import UserError, nearest
from stepjax.options import parse

PROGRAMS = ("rollout", "score", "credit", "update", "iteration")


def bench(argv: list[str]) -> None:
    """Times a program of a run; see `stepjax bench --help`."""
    program, argv = _program(argv)
    flags = {a for a in argv if a in ("--json", "--profile")}
    config, _ = parse([a for a in argv if a not in flags], "bench")
    from stepjax.bench.measure import measure
    from stepjax.bench.shapes import not_read
    from stepjax.console.progress import say

    for told in not_read(config, program, parse([], "bench").config):
        say(f"bench: {told}", stream=sys.stderr)
    lines = measure(config, program, profiled="--profile" in flags)
    if "--json" in flags:
        for line in lines:
            print(json.dumps(line, allow_nan=False), flush=True)
    else:
        show_tables(lines)


def _program(argv: list[str]) -> tuple[str, list[str]]:
    name = argv[0] if argv else ""
    if name in PROGRAMS:
        return name, argv[1:]
    if not name or name.startswith("-"):
        raise UserError(f"name the program to time: stepjax bench {'|'.join(PROGRAMS)}")
    raise UserError(f"no program {name!r}{nearest(name, PROGRAMS)}")


def show_tables(lines: list[dict[str, Any]]) -> None:
    """Repeats, figures and costs (as `measure` returns them) for people."""
    from stepjax.console.progress import table

    *repeats, last = lines
    table(
        f"{last['program']}, shape {last['shape']}",
        ("repeat", "seconds", "useful tokens", "tokens/s"),
        [
            (str(x["repeat"]), _seconds(x["seconds"]), str(x["useful_tokens"]), x["tokens_per_second"])
            for x in [*repeats, last]
        ],
    )
    table(
        "time and memory", ("figure", "value"), [(name, value) for name, value in _figures(last) if value is not None]
    )
    for name, costs in last.get("profile", {}).items():
        table(
            f"largest costs of {name}",
            ("operation", "seconds", "share", "times"),
            [(c["name"], c["seconds"], f"{c['share']:.0%}", str(c["count"])) for c in costs],
        )


def _seconds(seconds: Any) -> str:
    if isinstance(seconds, dict):
        return ", ".join(f"{phase} {s:.4g}" for phase, s in seconds.items())
    return f"{seconds:.4g}"


def _figures(x: dict[str, Any]) -> list[tuple[str, str | None]]:
    def gigabytes(value: float | None) -> str | None:
        return None if value is None else f"{value / 1e9:.3g} GB"

    slots, prefill = x.get("slot_occupancy"), x.get("prefill_seconds")
    return [
        ("useful GFLOP/s", f"{x['flops_per_second'] / 1e9:.4g} of {x['matrix_flops'] / 1e9:.4g} "
         f"({x['flops_share']:.0%} of a matrix product's)"),
        ("least GB/s", f"{x['bytes_per_second'] / 1e9:.4g} of {x['copy_bandwidth'] / 1e9:.4g} "
         f"({x['bytes_share']:.0%} of a copy's)"),
        ("of the chips' public figures", None if "peak_flops" not in x else
         f"{x['peak_flops_share']:.0%} of the FLOP/s, {x['peak_bandwidth_share']:.0%} of the bytes/s; a plan predicts "
         f"{x['predicted_seconds']:.4g} s"),
        ("compiled in", _seconds(x["compile_seconds"]) + " s"),
        ("program's memory", gigabytes(x["program_bytes"])),
        ("process's peak memory", gigabytes(x["resident_bytes"])),
        ("device's peak memory", gigabytes(x["device_bytes"])),
        ("slots in use while rows wait", None if slots is None else f"{slots:.0%}"),
        ("slots in use to the end", None if "slots" not in x else f"{x['slot_occupancy_whole']:.0%}"),
        ("cache in blocks", None if not x.get("cache_tokens") else f"{x['cache_tokens']:,} tokens at most, and a block "
         f"of each slot, for {x['held_tokens']:,} of rows; {x['restarted_tokens']:,} drawn again"),
        ("prefill", None if prefill is None else f"{prefill:.4g} s, {x['prefill_ratio']:.3g} × of one sample's"),
        ("useful share of a padded batch", f"{x['useful_share']:.0%}"),
    ]  # fmt: skip

"""Tables of a plan: the programs, what they send, the verdict and what to change."""

from collections.abc import Sequence
from typing import Any

from stepjax.config import Config
from stepjax.plan.compiled import ProgramPlan
from stepjax.plan.report import Plan, advice

_PROGRAM = ("program", "HBM GiB", "args", "temp", "beside", "host", "TFLOP", "GB", "sent GB", "bound", "seconds")


def print_plan(made: Plan, config: Config) -> None:
    """Prints the tables, the assumptions and the verdict."""
    mesh = " × ".join(f"{axis} {size}" for axis, size in made.mesh.items())
    title = f"{made.topology}: {made.chips} chips of {made.hbm / 2**30:g} GiB, mesh {mesh}; one chip, one execution"
    _table(title, _PROGRAM, [_row(p) for p in made.programs])
    sent = [
        (p.name, kind, f"{c['count']:,.0f}", f"{c['bytes'] / 1e9:.4g}")
        for p in made.programs
        for kind, c in p.collectives.items()
    ]
    if sent:
        _table("collectives of one chip, one execution", ("program", "kind", "count", "sent GB"), sent)
    print("assumed:")
    for assumption in made.assumptions:
        print(f"  {assumption}")
    seconds = sum(p.compile_seconds for p in made.programs)
    peak = max((p.compile_bytes for p in made.programs), default=0.0)
    print(f"planned in {seconds / 60:.1f} minutes of compiling; the host's memory: {peak / 2**30:.1f} GiB at most")
    for p in made.programs:
        if p.failure is not None:
            print(f"{p.name}: no plan: {p.failure}")
        if p.fits is False:
            print(f"{p.name} does not fit; its largest buffers:")
            for size, name in p.largest:
                print(f"  {size / 2**30:8.2f} GiB  {name}")
    print(verdict(made))
    for change in advice(config, made):
        print(f"  {change}")


def verdict(made: Plan) -> str:
    """One line: whether the run fits, how fast it is and what it costs."""
    if made.fits is None:
        return "verdict: unknown, because of the programs without a plan"
    if not made.fits:
        return "verdict: it does not fit. What to change:"
    speed = "" if made.tokens_per_second is None else f"; {made.tokens_per_second:,.0f} tokens a second"
    hours = "" if made.chip_hours is None else f"; {made.chip_hours:,.1f} chip-hours in all"
    return f"verdict: it fits{speed}{hours}"


def print_sweep(found: Sequence[tuple[int, Plan]]) -> None:
    """Prints a line per mesh and batch size, in the order given."""
    rows = []
    for prompts, p in found:
        hbm = [x.hbm_bytes_per_chip for x in p.programs]
        known = [h for h in hbm if h is not None]
        rows.append(
            (
                *(str(size) for size in p.mesh.values()),
                str(prompts),
                {True: "yes", False: "no", None: "?"}[p.fits],
                _gib(max(known)) if len(known) == len(hbm) else "",
                "" if p.tokens_per_second is None else f"{p.tokens_per_second:,.0f}",
                "" if p.chip_hours is None else f"{p.chip_hours:,.1f}",
            )
        )
    columns = ("data", "fsdp", "tensor", "prompts", "fits", "HBM GiB", "tokens/s", "chip-hours")
    _table(f"{found[0][1].topology}: meshes and batch sizes, best first", columns, rows)


def _row(p: ProgramPlan) -> tuple[str, ...]:
    memory = tuple(_gib(x) for x in (p.hbm_bytes_per_chip, p.arguments, p.temporaries, p.beside, p.host_bytes_per_chip))
    if p.seconds is None:
        return (p.name, *memory, "?", "?", "?", "?", "?")
    return (
        p.name,
        *memory,
        f"{p.flops_per_chip / 1e12:.4g}",
        f"{p.bytes_per_chip / 1e9:.4g}",
        f"{p.network_bytes / 1e9:.4g}",
        p.bound or "",
        f"{p.seconds:.3g}",
    )


def _gib(x: float | None) -> str:
    return "?" if x is None else f"{x / 2**30:.2f}"


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Whole columns, whatever the terminal's width: figures that wrap cannot be read."""
    widths = [max(len(str(r[i])) for r in (columns, *rows)) for i in range(len(columns))]
    texts = {i for i in range(len(columns)) if columns[i] in ("program", "kind", "bound")}
    print(title)
    for row in (columns, *rows):
        cells = (
            str(c).ljust(w) if i in texts else str(c).rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        )
        print(("  " + "  ".join(cells)).rstrip())
    print()

"""Profile of a program: its operations, traced while it runs and named after their source code."""

import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from stepjax.plan.hlo_text import Instruction, parse
from stepjax.programs import Program

CONTAINERS = {"while", "conditional", "call", "async-start", "async-done"}
"""Operations whose time is that of the operations inside them."""


@dataclass(frozen=True)
class Share:
    """A kind of operation. `share`: of the time of all traced operations; `seconds` are summed over devices."""

    name: str
    seconds: float
    share: float
    count: int


def profile(program: Program, call: Callable[[], Any], most: int = 3) -> list[Share]:
    """The `most` largest kinds of operations of `program` while `call` runs it, each with the line that it came from.

    Empty where the platform's tracer does not name operations.
    """
    with tempfile.TemporaryDirectory(prefix="stepjax-profile-") as folder:
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0
        options.enable_hlo_proto = False
        with jax.profiler.trace(folder, profiler_options=options):
            call()
        text = program.compile().as_text() or ""
        module = re.match(r"HloModule ([\w.\-]+)", text)
        return _largest(_sources(text), _events(Path(folder), module[1] if module else ""), most)


def _events(folder: Path, module: str) -> Iterable[tuple[str, float]]:
    """Name and seconds of each traced operation of a module, on all devices."""
    for path in folder.rglob("*.xplane.pb"):
        for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
            for line in plane.lines:
                for event in line.events:
                    told = dict(event.stats)
                    if "hlo_op" in told and told.get("hlo_module", module) == module:
                        yield str(told["hlo_op"]), event.duration_ns / 1e9


def _largest(sources: dict[str, str | None], events: Iterable[tuple[str, float]], most: int) -> list[Share]:
    """Sums over the events by source; of operations that are not in `sources` each has its own name."""
    times: dict[str, list[float]] = defaultdict(list)
    for operation, seconds in events:
        if (source := sources.get(operation, operation)) is not None:
            times[source].append(seconds)
    total = sum(sum(t) for t in times.values())
    found = [Share(name, sum(t), sum(t) / total, len(t)) for name, t in times.items()]
    return sorted(found, key=lambda s: -s.seconds)[:most]


def _sources(text: str) -> dict[str, str | None]:
    """The name of each operation of compiled text; None: it only holds others.

    That is the function of this package that asked for it, the kind of operation, and `(backward)` where it belongs to
    a gradient: `decoder.block: dot_general (backward)`.
    """
    frames = _frames(text)
    module = parse(text)
    found: dict[str, str | None] = {}
    for computation in module.computations.values():
        for i in computation.instructions.values():
            if i.opcode in CONTAINERS:
                found[i.name] = None
                continue
            told = [i]
            for name in i.called("calls"):
                inside = list(module.computations[name].instructions.values())
                # A fusion is named best after its product, if it has one.
                told = [x for x in inside if x.opcode in ("dot", "convolution", "custom-call")] + told + inside[::-1]
            found[i.name] = _describe(i, told, frames)
    return found


def _describe(i: Instruction, told: list[Instruction], frames: dict[str, str]) -> str:
    for instruction in told:
        path = re.search(r'op_name="([^"]*)"', instruction.attributes)
        frame = re.search(r"stack_frame_id=(\d+)", instruction.attributes)
        if path and frame and frame[1] in frames:
            kind = path[1].rpartition("/")[2]
            return f"{frames[frame[1]]}: {kind}" + (" (backward)" if "transpose(" in path[1] else "")
    return f"{i.opcode} made by the compiler"


def _frames(text: str) -> dict[str, str]:
    """The innermost function of this package on each stack frame's way out, as `module.function`.

    Helpers (`_name`, lambdas) go by the name of what called them, as far as it is of this package, too.
    """
    tables = {
        name: dict(re.findall(r"^(\d+) (.+)$", section[1], re.M))
        for name in ("FileNames", "FunctionNames", "FileLocations", "StackFrames")
        if (section := re.search(rf"^{name}\n((?:\d+ .+\n)+)", text, re.M))
    }
    if len(tables) < 4:
        return {}
    locations: dict[str, str] = {}
    for number, entry in tables["FileLocations"].items():
        if told := re.search(r"file_name_id=(\d+) function_name_id=(\d+)", entry):
            path = Path(tables["FileNames"].get(told[1], "").strip('"'))
            function = tables["FunctionNames"].get(told[2], "").strip('"').rpartition(".")[2]
            if "stepjax" in path.parts:
                locations[number] = f"{path.stem}.{function}"
    frames: dict[str, tuple[str | None, str]] = {}
    for number, entry in tables["StackFrames"].items():
        if told := re.search(r"file_location_id=(\d+)(?: parent_frame_id=(\d+))?", entry):
            frames[number] = locations.get(told[1]), str(int(told[2] or 1) - 1)  # written one too high; 0: none
    found = {}
    for number in frames:
        names: list[str | None] = []
        at = number
        while at in frames and len(names) < len(frames):
            name, at = frames[at]
            names.append(name)
        ours = [name for name in names if name is not None]
        public = [name for name in ours if not re.match(r"<|_(?!_)", name.partition(".")[2])]
        if ours:
            found[number] = (public or ours)[0]
    return found

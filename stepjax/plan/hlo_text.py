"""Compiled HLO text as data: computations, their instructions, and the size of what these produce."""

import math
import re
from dataclasses import dataclass, field

_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\](\{[^{}]*\})?")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_END = re.compile(r'^\}(, execution_thread="[^"]*")?\s*$')
_REFERENCE = re.compile(r"%([\w.\-]+)")
_BITS = re.compile(r"(?:bf|[fsuc])(\d+)")


@dataclass(frozen=True)
class Array:
    """An array of a type. `near`: it lies in fast memory on the chip, not in HBM."""

    dtype: str
    dims: tuple[int, ...]
    near: bool = False

    @property
    def bytes(self) -> float:
        return math.prod(self.dims) * _bits(self.dtype) / 8


@dataclass(frozen=True)
class Instruction:
    """One line of a computation: `name = type opcode(operands), attributes`."""

    name: str
    opcode: str
    arrays: tuple[Array, ...]
    operands: tuple[str, ...]
    attributes: str
    raw_operands: str
    root: bool = False

    @property
    def bytes(self) -> float:
        """Bytes in HBM of what it produces."""
        return sum(a.bytes for a in self.arrays if not a.near)

    def called(self, *names: str) -> list[str]:
        """Computations that an attribute of these names refers to (`calls`, `body`, `branch_computations`)."""
        found: list[str] = []
        for name in names:
            if match := re.search(rf"\b{name}=(\{{[^}}]*\}}|%[\w.\-]+)", self.attributes):
                found += _REFERENCE.findall(match[1])
        return found


@dataclass
class Computation:
    name: str
    instructions: dict[str, Instruction] = field(default_factory=dict)

    @property
    def root(self) -> Instruction:
        return next((i for i in self.instructions.values() if i.root), list(self.instructions.values())[-1])

    def users(self, name: str) -> list[Instruction]:
        return [i for i in self.instructions.values() if name in i.operands]


@dataclass(frozen=True)
class Module:
    computations: dict[str, Computation]
    entry: str


def parse(text: str) -> Module:
    """Reads `compiled.as_text()`. ValueError where there is no entry computation."""
    computations: dict[str, Computation] = {}
    entry, current = "", None
    for line in _whole_lines(text):
        if current is None:
            if header := _HEADER.match(line.strip()) if not line.startswith(" ") else None:
                current = computations[header[2]] = Computation(header[2])
                entry = header[2] if header[1] else entry
        elif _END.match(line):
            current = None
        elif (found := _instruction(line)) is not None:
            current.instructions[found.name] = found
    if not entry:
        raise ValueError("no entry computation in the HLO text")
    return Module(computations, entry)


def _whole_lines(text: str) -> list[str]:
    """Lines, those that an attribute breaks (a kernel's notes) made one again: instructions alone are indented."""
    lines: list[str] = []
    inside = False  # of a computation
    for line in text.splitlines():
        if inside and not _END.match(line) and not line.startswith("  "):
            lines[-1] += " " + line
            continue
        inside = line.startswith("  ") or line.rstrip().endswith("{")
        lines.append(line)
    return lines


def _instruction(line: str) -> Instruction | None:
    line = line.strip()
    root = line.startswith("ROOT ")
    name, equals, rest = line.removeprefix("ROOT ").partition(" = ")
    if not equals:
        return None
    end = _closing(rest) + 1 if rest.startswith("(") else rest.find(" ")
    kind, rest = rest[:end], rest[end:].strip()
    opcode, parenthesis, _ = rest.partition("(")
    if not parenthesis:
        return None
    rest = rest[len(opcode) :]
    end = _closing(rest)
    operands = rest[1:end]
    return Instruction(
        name.removeprefix("%"),
        opcode,
        arrays_of(kind),
        tuple(_REFERENCE.findall(operands)),
        rest[end + 1 :],
        operands,
        root,
    )


def _closing(text: str) -> int:
    """The place of the parenthesis that closes the first one."""
    depth = 0
    for i, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return i
    return len(text) - 1


def arrays_of(kind: str) -> tuple[Array, ...]:
    """The arrays of a type, those of a tuple in order; tokens and other opaque parts are left out."""
    return tuple(
        Array(dtype, tuple(int(d) for d in dims.split(",") if d), "S(1)" in layout)
        for dtype, dims, layout in _ARRAY.findall(kind)
        if _bits(dtype)
    )


def _bits(dtype: str) -> int:
    if dtype == "pred":
        return 8
    if dtype.startswith("f8"):
        return 8
    match = _BITS.fullmatch(dtype)
    return int(match[1]) if match else 0

"""The cost of a compiled program per device: matrix FLOPs, HBM traffic, collectives, times the trips of its loops.

XLA's own `cost_analysis` counts the body of a loop once; here every loop's cost is multiplied by its trip count.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stepjax.models.blocks import PAIRS
from stepjax.plan.hlo_text import Computation, Instruction, Module
from stepjax.plan.kernels import block_work, has_block_kernel, kernel_flops
from stepjax.plan.traffic import COLLECTIVES, fusion_bytes, plain_bytes

_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "iota", "partition-id"),
    *("copy-done", "async-done", "async-update", "opt-barrier", "replica-id", "domain"),
}


@dataclass(frozen=True)
class Collective:
    """One kind of collective. `bytes`: what a device sends over links that connect `n` devices in a ring."""

    count: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: "Collective") -> "Collective":
        return Collective(self.count + other.count, self.bytes + other.bytes)

    def times(self, n: float) -> "Collective":
        return Collective(self.count * n, self.bytes * n)


@dataclass(frozen=True)
class Cost:
    """Of one device.

    Attributes:
      flops: of matrix products and convolutions, and of kernels that state theirs.
      bytes: read from and written to HBM.
      collective_bytes: those of them that collectives read and write.
      collectives: by kind.
      guessed: loops whose trip count was not known and was assumed.
      opaque: kernels whose FLOPs are not known, and are left out.
    """

    flops: float = 0.0
    bytes: float = 0.0
    collectives: Mapping[str, Collective] = field(default_factory=dict)
    collective_bytes: float = 0.0
    guessed: int = 0
    opaque: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        kinds = {*self.collectives, *other.collectives}
        none = Collective()
        return Cost(
            self.flops + other.flops,
            self.bytes + other.bytes,
            {k: self.collectives.get(k, none) + other.collectives.get(k, none) for k in sorted(kinds)},
            self.collective_bytes + other.collective_bytes,
            self.guessed + other.guessed,
            self.opaque + other.opaque,
        )

    def times(self, n: float) -> "Cost":
        scaled = {k: c.times(n) for k, c in self.collectives.items()}
        return dataclasses.replace(
            self,
            flops=self.flops * n,
            bytes=self.bytes * n,
            collective_bytes=self.collective_bytes * n,
            collectives=scaled,
        )

    @property
    def network_bytes(self) -> float:
        return sum(c.bytes for c in self.collectives.values())


def module_cost(module: Module, *, unknown_trips: int | Sequence[int] = 1, in_turn: bool = False) -> Cost:
    """The cost of a run of the entry computation.

    A loop that ends by its data turns `unknown_trips` times: the first number of them, in one inside such a loop the
    second for each turn of that, and so on; once where there is no number, or where only one branch has the loop. Where
    the kernel that attends to blocks is in the place of a loop, the last number is of the turns that this would have.
    `in_turn`: the entry's loops of that kind share these turns, one carrying on where the other ended; the dearest is
    taken to turn them all.
    """
    trips = (unknown_trips,) if isinstance(unknown_trips, int) else tuple(unknown_trips)
    return _Walk(module, trips, in_turn).of(module.entry)


class _Walk:
    def __init__(self, module: Module, unknown_trips: Sequence[int], in_turn: bool = False):
        self.module, self.unknown_trips, self.in_turn = module, unknown_trips, in_turn
        self.pair_turns = 1
        if unknown_trips and has_block_kernel(module):
            *self.unknown_trips, self.pair_turns = unknown_trips
        self.found: dict[str, Cost] = {}
        self.depth = 0  # loops that end by their data around this
        # A collective in the background shows in several fusions of a computation, and happens once there.
        self.seen: set[tuple[str, str]] = set()
        self.fused_in = ""  # the computation whose fusion this is in; "": in none

    def of(self, name: str) -> Cost:
        if name not in self.found:
            computation = self.module.computations[name]
            total, sharing = Cost(), []
            for instruction in computation.instructions.values():
                cost = self._one(computation, instruction)
                if self.in_turn and name == self.module.entry and self._open_loop(instruction):
                    sharing.append(cost)
                else:
                    total = total + cost
            if sharing:
                dearest = max(sharing, key=lambda c: (c.flops, c.bytes))
                total = total + dataclasses.replace(dearest, guessed=sum(c.guessed for c in sharing))
            self.found[name] = total
        return self.found[name]

    def _open_loop(self, i: Instruction) -> bool:
        return i.opcode == "while" and trip_count(self.module, i) is None

    def _one(self, computation: Computation, i: Instruction) -> Cost:
        if i.opcode == "while":
            trips = trip_count(self.module, i)
            guessed = trips is None
            if trips is None:
                trips = self.unknown_trips[self.depth] if self.depth < len(self.unknown_trips) else 1
            self.depth += guessed
            body = self.of(i.called("body")[0])
            self.depth -= guessed
            return body.times(trips) + Cost(guessed=int(guessed))
        if i.opcode == "conditional":
            rare = len(self.unknown_trips) if self.depth else 0
            self.depth += rare
            branches = [self.of(n) for n in i.called("branch_computations", "true_computation", "false_computation")]
            self.depth -= rare
            return max(branches, key=lambda c: (c.flops, c.bytes), default=Cost())
        if i.opcode == "call":
            return sum((self.of(n) for n in i.called("to_apply")), Cost())
        if (kind := i.opcode.removesuffix("-start")) in COLLECTIVES:
            return self._collective(computation, i, kind)
        if i.opcode in ("fusion", "async-start"):
            outside, self.fused_in = self.fused_in, self.fused_in or computation.name
            inner = sum((self.of(n) for n in i.called("calls")), Cost())
            self.fused_in = outside
            return dataclasses.replace(inner, bytes=fusion_bytes(self.module, computation, i) + inner.collective_bytes)
        if i.opcode in _FREE or i.opcode.endswith("-done") or 'custom_call_target="AllocateBuffer"' in i.attributes:
            return Cost()
        if (work := block_work(computation, i)) is not None:
            pairs = min(self.pair_turns * PAIRS, work.listed)
            return Cost(pairs * work.flops, pairs * work.bytes + work.around)
        flops = {"dot": dot_flops, "convolution": convolution_flops, "custom-call": kernel_flops}.get(i.opcode)
        found = flops(computation, i) if flops else 0.0
        return Cost(found or 0.0, plain_bytes(computation, i), opaque=int(found is None))

    def _collective(self, computation: Computation, i: Instruction, kind: str) -> Cost:
        if channel := re.search(r"channel_id=(\d+)", i.attributes):
            place = self.fused_in or computation.name, channel[1]
            if place in self.seen:
                return Cost()
            self.seen.add(place)
        n = group_size(i.attributes)
        sizes = [sum(a.bytes for a in computation.instructions[o].arrays) for o in i.operands]
        sent = {
            "all-gather": (n - 1) * sum(sizes),
            "all-reduce": 2 * (n - 1) / n * sum(sizes),
            "collective-permute": sum(sizes[:1]),
        }.get(kind, (n - 1) / n * sum(sizes))
        around = plain_bytes(computation, i)
        return Cost(0.0, around, {kind: Collective(1, sent)}, around)


def trip_count(module: Module, loop: Instruction) -> int | None:
    """How often a loop turns: as XLA notes it, else from a condition that is `counter < constant` alone."""
    if noted := re.search(r'"?known_trip_count"?:\{"?n"?:"?(\d+)', loop.attributes):
        return int(noted[1])
    condition = module.computations[loop.called("condition")[0]]
    root = condition.root
    compare = root
    if root.opcode == "fusion" and root.called("calls"):  # the comparison alone, fused
        compare = module.computations[root.called("calls")[0]].root
    if compare.opcode != "compare" or "direction=LT" not in compare.attributes or len(root.operands) != 2:
        return None
    told = [n for n in (_constant(condition, o) for o in root.operands) if n is not None]
    counters = [condition.instructions[o] for o in root.operands if _constant(condition, o) is None]
    if len(told) != 1 or len(counters) != 1:
        return None
    return -(-told[0] // _stride(module, loop, counters[0]))


def _stride(module: Module, loop: Instruction, counter: Instruction) -> int:
    """By how much a turn raises the counter: more than 1 where the compiler unrolled the loop."""
    index = re.search(r"index=(\d+)", counter.attributes)
    body = module.computations[loop.called("body")[0]]
    if index is None or int(index[1]) >= len(body.root.operands):
        return 1
    new = body.instructions[body.root.operands[int(index[1])]]
    steps = [n for n in (_constant(body, o) for o in new.operands) if n is not None] if new.opcode == "add" else []
    return steps[0] if len(steps) == 1 and steps[0] > 0 else 1


def _constant(computation: Computation, name: str) -> int | None:
    found = computation.instructions.get(name)
    text = "" if found is None else found.raw_operands.strip()
    return int(text) if found is not None and found.opcode == "constant" and text.isdigit() else None


def group_size(attributes: str) -> int:
    """How many devices take part in a collective."""
    if iota := re.search(r"replica_groups=\[(\d+),(\d+)\]", attributes):
        return int(iota[2])
    if listed := re.search(r"replica_groups=\{\{([\d,]*)\}", attributes):
        return max(len(listed[1].split(",")), 1)
    if mesh := re.search(r"replica_groups=mesh\[([^\]]*)\] *\{([^}]*)\}", attributes):
        sizes = {axis: int(size) for axis, size in re.findall(r"'(\w+)'=(\d+)", mesh[1])}
        # An axis may be there in part: 'axis':(stride)size.
        parts = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", mesh[2])
        return math.prod(int(part) if part else sizes[axis] for axis, part in parts)
    return 2  # pairs of a permutation


def dot_flops(computation: Computation, i: Instruction) -> float:
    """2 × the elements of the result × the contracted length."""
    lhs = computation.instructions[i.operands[0]].arrays[0].dims
    contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", i.attributes)
    dims = [int(d) for d in contracted[1].split(",") if d] if contracted else []
    return 2.0 * math.prod(i.arrays[0].dims) * math.prod(lhs[d] for d in dims)


def convolution_flops(computation: Computation, i: Instruction) -> float:
    """2 × products of a convolution, those with padding and dilation's holes left out (a TPU multiplies so)."""
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", i.attributes)
    assert labels is not None, i
    lhs, rhs = (computation.instructions[o].arrays[0].dims for o in i.operands[:2])
    out = i.arrays[0].dims
    window = re.search(r"window=\{([^}]*)\}", i.attributes)
    options = dict(w.split("=") for w in window[1].split()) if window else {}
    total = 2.0 * rhs[labels[2].index("i")] * out[labels[3].index("b")] * out[labels[3].index("f")]
    for d in range(len(labels[3]) - 2):

        def each(name: str, default: int, d: int = d) -> int:
            return int(options[name].split("x")[d]) if name in options else default

        low = int(options["pad"].split("x")[d].split("_")[0]) if "pad" in options else 0
        size = lhs[labels[1].index(str(d))]
        dilated, holes = each("lhs_dilate", 1), each("rhs_dilate", 1)
        valid = 0
        for k in range(rhs[labels[2].index(str(d))]):
            starts = (o * each("stride", 1) + k * holes - low for o in range(out[labels[3].index(str(d))]))
            valid += sum(s % dilated == 0 and 0 <= s < (size - 1) * dilated + 1 for s in starts)
        total *= valid
    groups = re.search(r"batch_group_count=(\d+)", i.attributes)
    return total / (int(groups[1]) if groups else 1)

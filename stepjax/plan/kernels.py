"""Work of kernels, which the compiler does not count: FLOPs as the kernels state them, or by their name; and HBM bytes
of those that read a part of what they are given."""

import math
import re
from dataclasses import dataclass

from stepjax.models.block_kernel import NAME as BLOCK_KERNEL
from stepjax.plan.hlo_text import Computation, Instruction, Module

SPLASH = {"splash_mha_fwd": 2, "splash_mqa_fwd": 2, "dq": 3, "dkv": 4}
"""Products of queries × keys × head size in each kernel of splash attention: q·k and weights · v forward; q·k, the
gradient of the weights and that of the queries; q·k again, the gradients of weights, keys and values."""


def kernel_flops(computation: Computation, i: Instruction) -> float | None:
    """FLOPs of a custom call; None for an unknown kernel."""
    if told := re.search(r'"cost_estimate":\\?\{\\?"flops\\?":\\?"?(\d+)', i.attributes):
        return float(told[1])
    if i.name.startswith("splash_m"):
        return _splash(computation, i)
    return None if '"tpu_custom_call"' in i.attributes else 0.0


def _splash(computation: Computation, i: Instruction) -> float | None:
    """Those of the blocks that the causal mask, or a window's narrower grid, lets the kernel compute."""
    operands = [computation.instructions[o].arrays[0] for o in i.operands if o in computation.instructions]
    wide = [a.dims for a in operands if a.dtype in ("f32", "bf16", "f16") and len(a.dims) in (3, 4)]
    grid = operands[0].dims if operands else ()
    blocks = [re.search(rf'\b{name}(?:_dq|_dkv)?\\?": (\d+)', i.attributes) for name in ("block_q", "block_kv")]
    if len(wide) < 2 or len(grid) != 3 or None in blocks:
        return None
    *batch, queries, size = wide[0]
    keys = wide[1][-2]
    block_q, block_kv = (int(b[1]) for b in blocks if b is not None)
    causal = sum(min(-(-(at + block_q) // block_kv), keys // block_kv) for at in range(0, queries, block_q))
    computed = min(causal, grid[1] * grid[2])
    products = next((n for name, n in SPLASH.items() if name in i.name), 2)
    return 2.0 * products * math.prod(batch) * size * computed * block_q * block_kv


@dataclass(frozen=True)
class BlockWork:
    """Of the kernel that attends to blocks.

    Attributes:
      listed: pairs of a row and a block that there can be.
      flops, bytes: of one pair.
      around: bytes of everything else.
    """

    listed: int
    flops: float
    bytes: float
    around: float


def has_block_kernel(module: Module) -> bool:
    """Whether a program attends to blocks by the kernel."""
    return any(_is_block_kernel(i) for c in module.computations.values() for i in c.instructions.values())


def _is_block_kernel(i: Instruction) -> bool:
    return i.opcode == "custom-call" and i.name.startswith(BLOCK_KERNEL)


def block_work(computation: Computation, i: Instruction) -> BlockWork | None:
    """None where an instruction is none of that kernel."""
    if not _is_block_kernel(i):
        return None
    given = [computation.instructions[o].arrays[0] for o in i.operands if o in computation.instructions]
    first = next(number for number, a in enumerate(given) if len(a.dims) == 4)  # the queries, behind the lists
    lists, (queries, *pool) = given[:first], given[first:]
    _, heads, group, dim = queries.dims
    blocks = [(a, a.dims[-3:] if number < 2 else a.dims[-2:]) for number, a in enumerate(pool)]
    near = sum(a.bytes for a in (*lists, queries) if not a.near)
    return BlockWork(
        listed=lists[1].dims[0],
        flops=4.0 * heads * group * dim * pool[0].dims[-1],
        bytes=sum(a.bytes * math.prod(dims) / math.prod(a.dims) for a, dims in blocks if not a.near),
        around=near + i.bytes,
    )

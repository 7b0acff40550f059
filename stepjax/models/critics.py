"""A critic whose streams do not all share one trunk: a shared one, trunks of their own, process reward models.

Where every stream shares one trunk, `ScoreModel` is the critic and this module is not used.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from stepjax.models.definition import Params
from stepjax.models.heads import ScoreModel, StepReader

OWN = "own_"
"""Before a stream's name: its part of the parameters (`shared` is what the others have in common)."""


@dataclass(frozen=True)
class ValueHead:
    """How the values of one stream are computed.

    Attributes:
      stream: its name.
      trunk: "shared", "own", "prm", or "none" (its values are 0).
      class_values: "prm": the values of its classes bad, neutral and good; a PRM of two classes has no neutral one, and
        one with a single output is read as it is.
    """

    stream: str
    trunk: str
    class_values: tuple[float, ...] = ()


class Critics(nnx.Module):
    """Values of N streams: a column of a shared `ScoreModel`, a `ScoreModel` of its own, or a PRM's expected reward."""

    def __init__(
        self,
        heads: Sequence[ValueHead],
        scores: Callable[[int, nnx.Rngs], ScoreModel],
        prm: Callable[[nnx.Rngs], ScoreModel | StepReader],
        rngs: nnx.Rngs,
    ):
        """`scores(n, rngs)` makes a score model of n outputs, `prm(rngs)` a process reward model."""
        self.heads = tuple(heads)
        if shared := sum(h.trunk == "shared" for h in heads):
            self.shared = scores(shared, rngs)
        for head in heads:
            if head.trunk in ("own", "prm"):
                setattr(self, OWN + head.stream, scores(1, rngs) if head.trunk == "own" else prm(rngs))

    def __call__(
        self, tokens: Int[Array, "B T"], positions: Int[Array, "B T"], segments: Int[Array, "B T"], *, parts: int = 1
    ) -> Float[Array, "B T N"]:
        """Values of the state after each token, float32."""
        columns: dict[str, jax.Array] = {}
        if shared := [h.stream for h in self.heads if h.trunk == "shared"]:
            found = self.shared(tokens, positions, segments, parts=parts)
            columns |= {stream: found[..., i] for i, stream in enumerate(shared)}
        for head in self.heads:
            if head.trunk in ("own", "prm"):
                scores = getattr(self, OWN + head.stream)(tokens, positions, segments, parts=parts)
                columns[head.stream] = _value(head, scores)
        nothing = jnp.zeros(tokens.shape, jnp.float32)
        return jnp.stack([columns.get(h.stream, nothing) for h in self.heads], axis=-1)


def critic_start(
    heads: Sequence[ValueHead], shapes: Params, reference: Params, prm: Params | None
) -> dict[str, Params]:
    """The trained parameters that a fresh critic of these shapes takes over, by part.

    `reference`: a policy's, whose trunk is taken; `prm`: those of the process reward model, where a head stands on one.
    """
    trunk = {"trunk": reference["trunk"]}
    if "trunk" in shapes:
        return trunk
    given = {part: trunk for part in shapes if part == "shared" or part.startswith(OWN)}
    for head in heads:
        if head.trunk == "prm":
            assert prm is not None
            given[OWN + head.stream] = prm
    return given


def _value(head: ValueHead, outputs: Float[Array, "B T C"]) -> Float[Array, "B T"]:
    if head.trunk == "own" or outputs.shape[-1] == 1:
        return outputs[..., 0]
    class_values = head.class_values
    if outputs.shape[-1] != len(class_values):
        class_values = (class_values[0], class_values[-1])
    # A product and a sum, not a dot: accelerators round the inputs of a float32 dot.
    return jnp.sum(jax.nn.softmax(outputs, axis=-1) * jnp.asarray(class_values, jnp.float32), axis=-1)

"""What the decode loop does to each device's own slots, rows and blocks: the calls of a mesh."""

import functools

import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array

from stepjax.parallel import on_each_device
from stepjax.rollout.axes import QUEUE_AXES, layer_axes, prompt_axes, slot_axes
from stepjax.rollout.blocks import Layers, Usage, turn_ring
from stepjax.rollout.decoding import Decoding
from stepjax.rollout.held_columns import settle_columns
from stepjax.rollout.holding import Aside, put_aside, settle
from stepjax.rollout.refill import refill
from stepjax.rollout.slots import Hold, Prompts, Queue, Slots, retire, shrunk


class Local:
    """Calls of `refill`, `retire`, `turn_ring`, `put_aside` and `settle`, with the rows of one queue."""

    def __init__(
        self, decoding: Decoding, mesh: Mesh | None, queue: Queue, prompts: Prompts, slots: Slots, rolled: int
    ):
        """`slots`, `prompts`: of the shapes of all that come; `rolled`: `refill`'s `ring`."""
        self.decoding, self.mesh, self.queue = decoding, mesh, queue
        self._slots_at, self._prompts_at = slot_axes(slots), prompt_axes(prompts)
        given = self._slots_at, self._prompts_at, QUEUE_AXES
        fill = functools.partial(refill, ample=decoding.ample, ring=rolled)
        self._fill = on_each_device(fill, mesh, (*given, 0, None), self._slots_at)
        self.retire = on_each_device(retire, mesh, (self._slots_at, 0), self._slots_at)

    def fill(self, slots: Slots, prompts: Prompts, ended: Array, begin: Array) -> Slots:
        """With the next rows in the slots that `ended`, and in empty ones."""
        found: Slots = self._fill(slots, prompts, self.queue, ended, begin)
        return found

    def turn_ring(
        self, slots: Slots, layers: Layers, prompts: Prompts, full: Array, *, anew: bool = False
    ) -> tuple[Slots, Layers, Usage]:
        """Moves the ring to blocks where it is `full`."""
        axes, usage = layer_axes(layers), Usage(0, 0, 0)  # type: ignore[arg-type]
        turn = functools.partial(turn_ring, ample=self.decoding.ample, anew=anew)
        inputs, outputs = (self._slots_at, axes, self._prompts_at, QUEUE_AXES, None), (self._slots_at, axes, usage)
        return on_each_device(turn, self.mesh, inputs, outputs)(slots, layers, prompts, self.queue, full)

    def shrunk(self, slots: Slots, size: int) -> tuple[Slots, Array]:
        """The slots that decode in `size` slots of each device, and where they were."""
        call = on_each_device(functools.partial(shrunk, size=size), self.mesh, (self._slots_at,), (self._slots_at, 0))
        found: tuple[Slots, Array] = call(slots)
        return found

    def put_aside(self, aside: Aside, slots: Slots, ended: Array, stopped: Array, behind: Array) -> tuple[Aside, Array]:
        """With the rows that `ended` and shall be held; `stopped`: those that the stops ended; `behind`: the column of
        the ring that is written next.

        Gives `ended` back for what takes these slots: known only when the rows were copied. Else XLA sees two loops in
        no order, one of which reads the cache and one of which writes it, and copies all of it in every step.
        """
        new_tokens = self.decoding.new_tokens

        def local(
            aside: Aside, slots: Slots, queue: Queue, ended: Array, stopped: Array, behind: Array
        ) -> tuple[Aside, Array]:
            assert queue.hold is not None
            hold = queue.hold[jnp.minimum(slots.row, len(queue.id) - 1)]
            held = (hold == Hold.ENDED) | ((hold == Hold.STOPPED) & stopped)
            # Behind a response of the greatest length nothing begins.
            aside = put_aside(aside, slots, ended & held & (slots.time < new_tokens), behind)
            return aside, ended & (aside.count[0] >= 0)

        at = aside.axes
        call = on_each_device(local, self.mesh, (at, self._slots_at, QUEUE_AXES, 0, 0, None), (at, 0))
        found: tuple[Aside, Array] = call(aside, slots, self.queue, ended, stopped, behind)
        return found

    def settled(
        self, aside: Aside, slots: Slots, layers: Layers | None, prompts: Prompts
    ) -> tuple[Aside, Slots, Layers | None, Prompts]:
        """With nothing aside."""
        if layers is None:
            columns = aside.axes, self._slots_at, self._prompts_at
            call = on_each_device(
                functools.partial(settle_columns, ring=self.decoding.ring), self.mesh, columns, columns
            )
            aside, slots, prompts = call(aside, slots, prompts)
            return aside, slots, None, prompts
        outputs = aside.axes, self._slots_at, layer_axes(layers), self._prompts_at
        call = on_each_device(settle, self.mesh, (*outputs, QUEUE_AXES), outputs)
        found: tuple[Aside, Slots, Layers, Prompts] = call(aside, slots, layers, prompts, self.queue)
        return found

    def read(self, tokens: Array, slots: Slots) -> Array:
        """int32[S], the next token of each slot's row in the record, whose tokens these are."""

        def local(tokens: Array, slots: Slots) -> Array:
            rows, width = tokens.shape
            return tokens[jnp.minimum(slots.row, rows - 1), jnp.minimum(slots.time, width - 1)]

        found: Array = on_each_device(local, self.mesh, (0, self._slots_at), 0)(tokens, slots)
        return found

    def greedy(self, slots: Slots) -> Array | None:
        """bool[S], the rows that take the likeliest token each time."""
        if self.queue.greedy is None:
            return None

        def local(slots: Slots, queue: Queue) -> Array:
            assert queue.greedy is not None
            return queue.greedy[jnp.minimum(slots.row, len(queue.id) - 1)]

        found: Array = on_each_device(local, self.mesh, (self._slots_at, QUEUE_AXES), 0)(slots, self.queue)
        return found

"""The programs of a rollout that can pause: each takes the arrays between two turns over and gives them back."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from stepjax.kept import KeptForm
from stepjax.models import Definition, LanguageModel
from stepjax.models.definition import Params
from stepjax.parallel import batch_sharding, named_sharding, replicated
from stepjax.programs import Program, abstract
from stepjax.rollout.axes import layer_axes, prompt_axes, slot_axes
from stepjax.rollout.paused import Paused, PausedEngine, Seen
from stepjax.rollout.program import GROWS_WITH, RolloutShape, abstract_inputs
from stepjax.rollout.record import Record


@dataclasses.dataclass(frozen=True)
class PausedPrograms:
    """Compiled when they are called first.

    Attributes:
      prepare: `(params) -> ready`, the parameters as decoding reads them.
      start: `(ready, tokens [Q, F], length [Q], key, queue [N], [record]) -> (Paused, Seen)`.
      turn: `(ready, Paused, steps []) -> (Paused, Seen)`, of a donated state, as that of `add`.
      add: `(ready, Paused, tokens [A, F], length [A], place [A], queue [N], begins [N], [record]) -> (Paused, Seen)`.
      branch: `(ready, Paused, queue [N], begins [N], of [N], release [N]) -> (Paused, Seen)`; None: no row is held.
      some_rows: `(Paused, rows [K]) -> (tokens [K, W], logprobs [K, W])`.
      rows: `(Paused) -> Trajectory`.
      form: how the kept tokens are recorded; None: they are not.
    """

    prepare: Program
    start: Program
    turn: Program
    add: Program
    branch: Program | None
    some_rows: Program
    rows: Program
    form: KeptForm | None

    @classmethod
    def make(
        cls,
        definition: Definition[LanguageModel],
        mesh: Mesh,
        shape: RolloutShape,
        engine: PausedEngine,
        *,
        gather: bool,
    ) -> "PausedPrograms":
        """`gather`: as of `rollout_program`."""
        by_row, whole = batch_sharding(mesh), replicated(mesh)
        vocab = _vocab(definition)
        params, tokens, length, key, queue = abstract_inputs(definition, mesh, shape)
        prepare = _prepare_program(definition, mesh, params, gather)
        ready = prepare.outputs()
        form = engine.decoding.kept_form(vocab)
        empty = jax.eval_shape(
            lambda: Record.empty(shape.rows, shape.new_tokens, tool=False, form=form, by_stop=shape.holds)
        )
        record = (abstract(empty, by_row),) if shape.resumed else (None,)

        def start(ready: Any, *given: Any) -> tuple[Paused, Seen]:
            return engine.start(definition.bind(ready[0]), ready[1], *given)

        def turn(ready: Any, state: Paused, steps: jax.Array) -> tuple[Paused, Seen]:
            return engine.turn(definition.bind(ready[0]), ready[1], state, steps)

        def add(ready: Any, state: Paused, *given: Any) -> tuple[Paused, Seen]:
            return engine.add(definition.bind(ready[0]), ready[1], state, *given)

        def branch(ready: Any, state: Paused, *given: Any) -> tuple[Paused, Seen]:
            return engine.branch(definition.bind(ready[0]), ready[1], state, *given)

        begin = (ready, tokens, length, key, queue, *record)
        with jax.set_mesh(mesh):
            state, _ = jax.eval_shape(start, *begin)
        where = state_shardings(state, mesh)
        state, added = abstract(state, where), engine.added
        some = jax.ShapeDtypeStruct((added,), jnp.int32, sharding=by_row)
        texts = jax.ShapeDtypeStruct((added, shape.entry_width), jnp.int32, sharding=by_row)
        begins = jax.ShapeDtypeStruct((shape.rows,), bool, sharding=by_row)
        steps = jax.ShapeDtypeStruct((), jnp.int32, sharding=whole)
        branches = shape.holds and not shape.turns
        out: Any = (where, whole)

        def goes_on(name: str, call: Any, *given: Any, grows_with: str = "") -> Program:
            """Takes a state over and gives it back."""
            inputs = (ready, state, *given)
            return Program(name, call, mesh=mesh, inputs=inputs, donate=(1,), out_shardings=out, grows_with=grows_with)

        each = jax.ShapeDtypeStruct((shape.rows,), jnp.int32, sharding=by_row)
        chosen = jax.ShapeDtypeStruct((engine.decoding.slots,), jnp.int32, sharding=whole)
        return cls(
            prepare=prepare,
            start=Program("rollout start", start, mesh=mesh, inputs=begin, out_shardings=out),
            turn=goes_on("rollout turn", turn, steps, grows_with=GROWS_WITH),
            add=goes_on("rollout add", add, texts, some, some, queue, begins, *record),
            branch=goes_on("rollout branch", branch, queue, begins, each, begins) if branches else None,
            some_rows=Program(
                "rollout some rows", engine.some_rows, mesh=mesh, inputs=(state, chosen), out_shardings=(whole, whole)
            ),
            rows=Program(
                "rollout rows",
                lambda state: engine.rows(state, vocab),
                mesh=mesh,
                inputs=(state,),
                out_shardings=by_row,
            ),
            form=form,
        )


def _vocab(definition: Definition[LanguageModel]) -> int:
    found: list[int] = []
    jax.eval_shape(lambda params: found.append(definition.bind(params).trunk.config.vocab), definition.shapes)
    return found[0]


def _prepare_program(definition: Definition[LanguageModel], mesh: Mesh, params: Params, gather: bool) -> Program:
    """`(params) -> (params, weights)`: gathered over fsdp where asked for; the layers' weights apart, where decoding
    reads them so and no axis divides them (else None: each program takes them apart)."""
    apart = gather and mesh.shape["tensor"] == 1

    def prepare(params: Params) -> Any:
        model = definition.bind(params)
        if gather:
            params = definition.gathered(params, model.trunk.config.dtype)
        return params, definition.bind(params).trunk.split_weights() if apart else None

    def gathered(shape: jax.ShapeDtypeStruct, axes: tuple[str, ...]) -> NamedSharding:
        names = [None if name == "embed" and gather else name for name in axes]
        return named_sharding(mesh, names, shape.shape)

    where = jax.tree.map(gathered, definition.shapes, definition.axes)
    with jax.set_mesh(mesh):
        shapes = jax.eval_shape(prepare, params)
    weights = jax.tree.map(lambda _: replicated(mesh), shapes[1])
    return Program("prepare", prepare, mesh=mesh, inputs=(params,), out_shardings=(where, weights))


def state_shardings(state: Paused, mesh: Mesh) -> Paused:
    """Of each array of a state: rows, slots, prompts and blocks over the batch axes, heads over the tensor axis."""

    def place(axis: int | None, x: Any) -> Any:
        return None if x is None else named_sharding(mesh, [] if axis is None else [*[None] * axis, "batch"], x.shape)

    def heads(axis: int, x: Any) -> NamedSharding:
        """Of keys and values: the heads are behind the rows."""
        return named_sharding(mesh, [*[None] * axis, "batch", "kv_heads"], x.shape)

    def placed(axes: Any, tree: Any) -> Any:
        return jax.tree.map(place, axes, tree, is_leaf=lambda x: x is None)

    now, prompts = state.now, state.prompts
    by_row = (state.queue, state.text, state.text_length, now.record, now.reply)
    queue, text, text_length, record, reply = placed(jax.tree.map(lambda _: 0, by_row), by_row)
    slots = placed(slot_axes(now.slots), now.slots)
    slots = dataclasses.replace(
        slots,
        cache=dataclasses.replace(
            slots.cache,
            layers=jax.tree.map(heads, layer_axes(now.slots.cache.layers), now.slots.cache.layers),
        ),
    )
    found = placed(prompt_axes(prompts), prompts)
    found = dataclasses.replace(found, layers=jax.tree.map(heads, layer_axes(prompts.layers, 1), prompts.layers))
    whole: Any = replicated(mesh)
    aside = now.aside
    if aside is not None:
        at = layer_axes(aside.layers)
        aside = dataclasses.replace(placed(aside.axes, aside), layers=jax.tree.map(heads, at, aside.layers))
    layers = None if now.layers is None else jax.tree.map(heads, layer_axes(now.layers), now.layers)
    progress = dataclasses.replace(
        now,
        t=whole,
        slots=slots,
        layers=layers,
        record=record,
        reply=reply,
        aside=aside,
        occupancy=jax.tree.map(lambda _: whole, now.occupancy),
    )
    return Paused(whole, queue, found, text, text_length, progress)

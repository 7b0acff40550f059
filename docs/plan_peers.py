"""What programs of stepjax and of google-tunix need of a TPU, side by side, without one: `python docs/plan_peers.py`.

    pip install 'stepjax[plan]' google-tunix==0.1.7 qwix
    JAX_PLATFORMS=cpu python docs/plan_peers.py --topology=v5e:4x4 --shape=0.5b

PPO's update of actor and critic, and the decoding of all responses, of one model shape, batch and mesh. Tunix's are its
own functions, jitted and donated as its learner and sampler do it, under the parameters' shardings of its model. Both
are compiled by libtpu and read by the reader of `stepjax plan`, every loop counted by its turns, every response of full
length. `--help` lists the options.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from stepjax.bench.shapes import SHAPES, Shape
from stepjax.chips import Topology, open_topology
from stepjax.config import Config, StreamOptions
from stepjax.options import parse
from stepjax.plan.compiled import ProgramPlan, plan_program
from stepjax.plan.surroundings import Planned, planned_programs, planned_run, resident_bytes

MODELS = {
    "0.5b": SHAPES["0.5b"],
    "7b": Shape(layers=28, width=3584, heads=28, kv_heads=4, head_dim=128, mlp=18_944, vocab=152_064, rows=0),
    "1m": SHAPES["1m"],
}
PAD, END = 0, 2


@dataclasses.dataclass(frozen=True)
class Work:
    """What both do: `rows` responses of `new` tokens after prompts of `prompt`; products in bfloat16, parameters and
    AdamW's moments in float32; devices fsdp × tensor; `remat`: a layer's activations are recomputed."""

    shape: Shape
    topology: str
    rows: int
    prompt: int
    new: int
    tensor: int
    remat: bool


def stepjax_config(work: Work, *changes: str) -> Config:
    """A run of PPO alone: policy, critic and reference; one update a round on all rows."""
    sizes = dataclasses.asdict(work.shape)
    del sizes["rows"]
    options = {f"model.{name}": size for name, size in sizes.items()} | {
        "model.dtype": "bfloat16",
        "model.remat": work.remat,
        "model.qk_norm": False,
        "mesh.tensor": work.tensor,
        "mesh.fsdp": -1,
        "mesh.data": 1,
        "stages": "('ppo',)",
        **dict.fromkeys(("ppo.prompts", "sft.rows", "prm.rows", "eval.rows"), work.rows),
        "ppo.samples": 1,
        "ppo.prompt_tokens": work.prompt,
        "ppo.max_new_tokens": work.new,
        "ppo.epochs": 1,
        "ppo.minibatches": 1,
        "ppo.halvings": 0,  # no response ends early
    }
    given = [f"--config.{name}={value}" for name, value in options.items()]
    config = parse([*given, *(f"--config.{change}" for change in changes)])[0]
    streams = {"outcome": StreamOptions(signal="outcome")}
    return dataclasses.replace(config, ppo=dataclasses.replace(config.ppo, streams=streams))


def of_stepjax(work: Work, topology: Topology) -> Iterator[tuple[str, Planned]]:
    """The run's update, with micro-batches as it chooses them and with one for all rows; its rollout both ways."""
    from stepjax.parallel import make_mesh

    mesh = make_mesh(1, -1, work.tensor, devices=topology.devices)
    at_once = work.rows * (work.prompt + work.new)
    for label, program, changes in (
        ("update", "update", ()),
        ("update, one micro-batch", "update", (f"ppo.micro_tokens={at_once}",)),
        ("decode", "rollout", ()),
        ("decode, weights gathered each step", "rollout", ("mesh.gather_to_decode=False",)),
    ):
        run = planned_run(stepjax_config(work, *changes), mesh)
        yield label, next(p for p in planned_programs(run) if p.program.name == program)


@dataclasses.dataclass(frozen=True)
class Lowering:
    """A jitted function of Tunix as `stepjax plan` takes a program."""

    name: str
    lower: Callable[[], Any]
    inputs: Any
    turns: int = 1
    note: str = ""

    @property
    def trips(self) -> tuple[int, ...]:
        return (self.turns,)


class Tunix:
    """Tunix's Qwen2 of the shape, its roles abstract: shapes and shardings, no arrays."""

    def __init__(self, work: Work, topology: Topology, *, flash: bool):
        import jax
        import jax.numpy as jnp
        import numpy as np
        from flax import nnx
        from tunix.models.qwen2 import model as qwen2
        from tunix.rl import utils

        # Its model leaves activations without shardings where this machine has no accelerator; the TPU would have them.
        qwen2.shard = lambda x, s: jax.lax.with_sharding_constraint(x, self.sharding(*s))
        devices = np.array(topology.devices).reshape(-1, work.tensor)
        self.work, self.mesh = work, jax.sharding.Mesh(devices, ("fsdp", "tp"))
        shape = work.shape
        config = qwen2.ModelConfig(
            num_layers=shape.layers,
            vocab_size=shape.vocab,
            embed_dim=shape.width,
            hidden_dim=shape.mlp,
            num_heads=shape.heads,
            head_dim=shape.head_dim,
            num_kv_heads=shape.kv_heads,
            rope_theta=10_000,
            norm_eps=1e-6,
            use_tied_embedding=shape.tied,
            remat_config=qwen2.RematConfig.DECODER if work.remat else qwen2.RematConfig.NONE,
            dtype=jnp.bfloat16,
            use_flash_attention=flash,
        )
        self.actor = self._abstract(lambda: qwen2.Qwen2(config, rngs=nnx.Rngs(0)))
        # The same parameters: flax 0.12.8 refuses a rematerialised layer inside the decode loop, where none is needed.
        plain = dataclasses.replace(config, remat_config=qwen2.RematConfig.NONE)
        self.decoder = self._abstract(lambda: qwen2.Qwen2(plain, rngs=nnx.Rngs(0)))
        self.critic = self._abstract(lambda: utils.create_critic_model(qwen2.Qwen2(config, rngs=nnx.Rngs(0))))

    def sharding(self, *axes: Any) -> Any:
        import jax

        return jax.sharding.NamedSharding(self.mesh, jax.sharding.PartitionSpec(*axes))

    def _abstract(self, make: Callable[[], Any]) -> Any:
        """A module of ShapeDtypeStructs with the shardings that its variables ask for."""
        import jax
        from flax import nnx

        definition, state = nnx.split(nnx.eval_shape(make))
        specs = nnx.get_partition_spec(state)

        def placed(leaf: Any, spec: Any) -> Any:
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self.sharding(*(spec or ())))

        return nnx.merge(definition, jax.tree.map(placed, state, specs))

    def _optimizer(self, model: Any) -> Any:
        import optax
        from flax import nnx

        return self._abstract(lambda: nnx.Optimizer(model, optax.adamw(1e-6), wrt=nnx.Param))

    def _bytes(self, *modules: Any) -> float:
        from flax import nnx

        return sum(resident_bytes(nnx.state(module)) for module in modules)

    def updates(self) -> Iterator[tuple[str, Planned]]:
        """The train steps of actor and critic. Beside each lie the other's state and the reference."""
        from flax import nnx
        from tunix.rl import algo_core
        from tunix.rl.ppo import ppo_learner
        from tunix.sft import peft_trainer

        config = ppo_learner.PPOConfig()
        ids = {"pad_id": PAD, "eos_id": END}
        losses = {
            "actor": (self.actor, algo_core.ppo_policy_loss_fn, {"algo_config": config}),
            "critic": (self.critic, algo_core.ppo_value_loss_fn, {"clip_range_value": config.clip_range_value}),
        }
        optimizers = {role: self._optimizer(model) for role, (model, *_) in losses.items()}
        example = self._example()
        for role, (model, loss, more) in losses.items():
            trainer = SimpleNamespace(
                loss_fn=loss,
                gen_model_input_fn=lambda x, more=more: {"train_example": x, **more, **ids},
                _lora_enabled=False,
                _has_aux=True,
            )

            def step(model: Any, optimizer: Any, inputs: Any, trainer: Any = trainer) -> Any:
                return peft_trainer.PeftTrainer._train_step(trainer, model, optimizer, inputs)

            def lower(step: Any = step, model: Any = model, optimizer: Any = optimizers[role]) -> Any:
                with self.mesh:
                    return nnx.jit(step, donate_argnames=("optimizer",)).lower(model, optimizer, example)

            other = "critic" if role == "actor" else "actor"
            beside = self._bytes(losses[other][0], optimizers[other], self.actor)
            inputs = (nnx.state(model), nnx.state(optimizers[role]), example)
            yield f"{role} update", Planned(Lowering(f"{role}_update", lower, inputs), "ppo", 1, beside)

    def _example(self) -> Any:
        """A batch, its rows over fsdp."""
        import jax
        import jax.numpy as jnp
        from tunix.rl.ppo import ppo_learner

        def array(tokens: int, dtype: Any) -> Any:
            return jax.ShapeDtypeStruct((self.work.rows, tokens), dtype, sharding=self.sharding("fsdp"))

        new = {name: array(self.work.new, jnp.float32) for name in ("advantages", "returns", "old_values")}
        return ppo_learner.TrainExample(
            prompt_ids=array(self.work.prompt, jnp.int32),
            prompt_mask=array(self.work.prompt, jnp.int32),
            completion_ids=array(self.work.new, jnp.int32),
            completion_mask=array(self.work.new, jnp.bool_),
            ref_per_token_logps=array(self.work.new, jnp.float32),
            old_per_token_logps=array(self.work.new, jnp.float32),
            **new,
        )

    def decode(self) -> Iterator[tuple[str, Planned]]:
        """The sampler's prefill and decode loop. Beside lie both roles' moments, the critic and the reference."""
        import jax
        import jax.numpy as jnp
        from tunix.generate import sampler as samplers

        work, shape = self.work, self.work.shape
        length = work.prompt + work.new
        cache = samplers.CacheConfig(length, shape.layers, shape.kv_heads, shape.head_dim)
        words = SimpleNamespace(pad_id=lambda: PAD, eos_id=lambda: END, bos_id=lambda: 1, encode=list, decode=str)
        sampler = samplers.Sampler(self.decoder, words, cache)
        sampler.eos_ids = jnp.array([shape.vocab])  # no token: every response has full length

        def start() -> Any:
            ids = jnp.ones((work.rows, work.prompt), jnp.int32)
            key = jax.random.PRNGKey(0)
            # The sampler as far as this needs it: its own makes the model anew, which cannot be done in a trace.
            like = SimpleNamespace(transformer=self.decoder, tokenizer=words, cache_config=cache, dtype=jnp.bfloat16)
            made = samplers.Sampler.init_sample_state(
                like, ids, length, False, None, 1.0, 1.0, None, key, None, include_logprobs=True
            )
            return dataclasses.replace(made, num_input_tokens=work.prompt)

        weights, state = sampler._flattened_transformer_state, jax.eval_shape(start)
        optimizers = [self._optimizer(model) for model in (self.actor, self.critic)]
        beside = self._bytes(*optimizers, self.critic, self.actor)

        def placed(leaf: Any) -> Any:
            """As its prefill leaves them: rows over fsdp, the cache's heads over tp; what has no columns everywhere."""
            axes = {2: ("fsdp",), 4: ("fsdp", None, "tp")}.get(leaf.ndim, ())
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self.sharding(*axes))

        state = jax.tree.map(placed, state)

        def prefill() -> Any:
            with self.mesh:
                return sampler._compiled_prefill_fn.lower(weights, state, None, echo=False)

        def loop() -> Any:
            with self.mesh:
                return sampler._compiled_decode_fn.lower(weights, state)

        yield "prefill", Planned(Lowering("prefill", prefill, weights), "ppo", 1, beside)
        yield "decode", Planned(Lowering("decode", loop, weights, work.new), "ppo", 1, beside)

    @property
    def programs(self) -> Iterator[tuple[str, Planned]]:
        yield from self.updates()
        yield from self.decode()


def planned(work: Work, topology: Topology, chosen: str) -> Iterator[tuple[str, str, ProgramPlan]]:
    """Software, program and plan, of those whose software and program hold the chosen words."""
    peer = f"google-tunix {importlib.metadata.version('google-tunix')}"
    sides: list[tuple[str, Callable[[], Iterator[tuple[str, Planned]]]]] = [
        ("stepjax", lambda: of_stepjax(work, topology)),
        (peer, lambda: Tunix(work, topology, flash=False).programs),
        (f"{peer}, flash", lambda: Tunix(work, topology, flash=True).updates()),
    ]
    for software, programs in sides:
        if ":" in chosen and not f"{software}:".endswith(chosen[: chosen.index(":") + 1]):
            continue
        for name, program in programs():
            if chosen in f"{software}: {name}":
                print(f"compiling {software}: {name}", file=sys.stderr, flush=True)
                yield software, name, plan_program(program, topology)


COLUMNS = (
    "software",
    "program",
    "HBM GiB",
    "args",
    "temp",
    "outputs",
    "beside",
    "TFLOP",
    "GB",
    "sent GB",
    "collectives",
)


def row(software: str, name: str, plan: ProgramPlan) -> list[str]:
    """A line of the table; `outputs` are those that take no argument's place."""
    if plan.arguments is None or plan.outputs is None or plan.aliased is None or plan.temporaries is None:
        total = "?" if plan.hbm_bytes_per_chip is None else f"{plan.hbm_bytes_per_chip / 2**30:.2f}, too much"
        return [software, name, total, plan.failure or "", *[""] * (len(COLUMNS) - 4)]
    memory = (plan.hbm_bytes_per_chip, plan.arguments, plan.temporaries, plan.outputs - plan.aliased, plan.beside)
    kinds = (f"{c['count']:,.0f} {kind} ({c['bytes'] / 1e9:.3g})" for kind, c in plan.collectives.items())
    return [
        software,
        name,
        *(f"{(x or 0.0) / 2**30:.2f}" for x in memory),
        f"{plan.flops_per_chip / 1e12:.4g}",
        f"{plan.bytes_per_chip / 1e9:.4g}",
        f"{plan.network_bytes / 1e9:.4g}",
        ", ".join(kinds),
    ]


def main(argv: list[str]) -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--topology", default="v5e:4x4")
    options.add_argument("--shape", choices=MODELS, default="0.5b")
    options.add_argument("--rows", type=int, default=32, help="responses in an update and decoded at once")
    options.add_argument("--prompt", type=int, default=512, help="tokens of a prompt")
    options.add_argument("--new", type=int, default=1536, help="tokens of a response")
    options.add_argument("--tensor", type=int, default=1, help="devices along tensor; the others are along fsdp")
    options.add_argument("--remat", type=int, choices=(0, 1), default=1, help="recompute a layer's activations")
    options.add_argument("--only", default="", help="programs whose software: name holds this")
    options.add_argument("--json", help="a file for the plans, one JSON object a line")
    given = options.parse_args(argv)
    topology = open_topology(given.topology)
    import jax

    jax.config.update("jax_platforms", "cpu")
    sizes = (given.rows, given.prompt, given.new, given.tensor)
    work = Work(MODELS[given.shape], given.topology, *sizes, bool(given.remat))
    lines = []
    for software, name, plan in planned(work, topology, given.only):
        lines.append(row(software, name, plan))
        if given.json:
            with open(given.json, "a") as file:
                file.write(json.dumps({"software": software, "program": name, "plan": plan.as_json()}) + "\n")
    print(f"{given.topology}, one chip, one execution; {given.shape}, {work}")
    for cells in (COLUMNS, ["---"] * len(COLUMNS), *lines):
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main(sys.argv[1:])

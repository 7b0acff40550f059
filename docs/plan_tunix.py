"""google-tunix's PPO as programs that `docs/plan_peers.py` plans: its own functions on abstract models.

Nothing of Tunix is imported before a program is asked for.
"""

import dataclasses
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from stepjax.bench.shapes import Shape
from stepjax.chips import Topology
from stepjax.plan.surroundings import Planned, resident_bytes

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

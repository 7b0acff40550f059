"""google-tunix's PPO programs beside those of `stepjax plan`: the same model, topology and rows, one compiler, no TPU.

    pip install google-tunix 'stepjax[plan]'                  # in an environment of its own
    python docs/plan_peers.py --topology=v5e:4x4 [--rows=128] [--minibatches=8] [--json]

The model is Qwen2.5-0.5B's shape with an untied output matrix (the peer's critic replaces it), trained in float32 and
multiplied in bfloat16, rematerialised by layer, parameters and moments divided over all chips (fsdp). A round is `rows`
responses of 256 + 384 tokens, all at the limit: one rollout, one epoch of policy and critic updates. Every figure is of
one chip and one round. The peer's sampler leaves its cache on one device; here its rows are divided over the chips.
"""

import dataclasses
import json
import sys
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tunix.generate import sampler
from tunix.models.qwen2 import model as qwen2
from tunix.rl import algo_core
from tunix.rl.ppo import ppo_learner

from stepjax.chips import Topology, open_topology
from stepjax.options import parse
from stepjax.plan.compiled import ProgramPlan, plan_program
from stepjax.plan.surroundings import Planned
from stepjax.plan.worker import Job, planned_apart

PROMPT, NEW = 256, 384
LAYERS, WIDTH, MLP, HEADS, KV, HEAD, VOCAB = 24, 896, 4864, 14, 2, 64, 151_936


class Peer:
    """The peer's models and programs on the chips of a topology, as shapes."""

    def __init__(self, topology: Topology):
        self.mesh = Mesh(np.array(topology.devices).reshape(-1, 1), ("fsdp", "tp"))
        qwen2.shard = self._constrained  # it constrains nothing where the host has no TPU
        config = qwen2.ModelConfig(
            num_layers=LAYERS, vocab_size=VOCAB, embed_dim=WIDTH, hidden_dim=MLP, num_heads=HEADS, head_dim=HEAD,
            num_kv_heads=KV, rope_theta=1_000_000, norm_eps=1e-6, use_tied_embedding=False,
            remat_config=qwen2.RematConfig.DECODER, dtype=jnp.bfloat16, param_dtype=jnp.float32,
        )  # fmt: skip
        self.policy = nnx.eval_shape(lambda: qwen2.Qwen2(config, rngs=nnx.Rngs(0)))
        self.critic = nnx.eval_shape(lambda: self._critic(config))

    @staticmethod
    def _critic(config: qwen2.ModelConfig) -> nnx.Module:
        """As `create_critic_model` makes it of a policy."""
        model = qwen2.Qwen2(config, rngs=nnx.Rngs(0))
        model.lm_head = nnx.Linear(WIDTH, 1, use_bias=False, rngs=nnx.Rngs(0))
        return model

    def _constrained(self, x: jax.Array, axes: tuple[str | None, ...]) -> jax.Array:
        return jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, PartitionSpec(*axes)))

    def placed(self, shapes: Any, *axes: Any) -> Any:
        """Shapes with these axes, by row: `placed(x, "fsdp")`."""
        sharding = NamedSharding(self.mesh, PartitionSpec(*axes))
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes)

    def state(self, of: Any) -> Any:
        """The state of a model or an optimiser, divided as its variables say."""
        state = nnx.state(of)
        specs = nnx.get_partition_spec(state)

        def place(x: Any, spec: Any) -> Any:
            axes = spec if isinstance(spec, PartitionSpec) else PartitionSpec()
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(self.mesh, axes))

        return jax.tree.map(place, nnx.pure(state), nnx.pure(specs))

    def batch(self, rows: int) -> ppo_learner.TrainExample:
        def array(width: int, dtype: Any) -> Any:
            return self.placed(jax.ShapeDtypeStruct((rows, width), dtype), "fsdp")

        prompt, new = (array(width, jnp.int32) for width in (PROMPT, NEW))
        masks, floats = (array(PROMPT, jnp.bool_), array(NEW, jnp.bool_)), array(NEW, jnp.float32)
        return ppo_learner.TrainExample(
            prompt_ids=prompt, prompt_mask=masks[0], completion_ids=new, completion_mask=masks[1], advantages=floats,
            ref_per_token_logps=floats, old_per_token_logps=floats, returns=floats, old_values=floats,
        )  # fmt: skip

    def update(self, model: nnx.Module, loss: Any, rows: int) -> tuple[Any, tuple[Any, ...]]:
        """`PeftTrainer._train_step` of a model with AdamW, and its arguments."""
        optimizer = nnx.eval_shape(lambda m: nnx.Optimizer(m, optax.adamw(1e-6), wrt=nnx.Param), model)
        graph, optimizer_graph = nnx.graphdef(model), nnx.graphdef(optimizer)

        def step(state: Any, moments: Any, batch: Any) -> Any:
            model, optimizer = nnx.merge(graph, state), nnx.merge(optimizer_graph, moments)
            (value, aux), grads = nnx.value_and_grad(loss, has_aux=True)(model, batch)
            optimizer.update(model, grads)
            return nnx.pure(nnx.state(model)), nnx.pure(nnx.state(optimizer)), value, aux, optax.global_norm(grads)

        return jax.jit(step, donate_argnums=(0, 1)), (self.state(model), self.state(optimizer), self.batch(rows))

    def decode(self, rows: int) -> tuple[Any, tuple[Any, ...]]:
        """The sampler's prefill and decode loop as one program, and its arguments."""
        size = PROMPT + NEW
        own = sampler.Sampler.__new__(sampler.Sampler)
        own.tokenizer = SimpleNamespace(pad_id=lambda: 0)
        own.cache_config = sampler.CacheConfig(size + 8, LAYERS, KV, HEAD)
        own._transformer_graphdef = nnx.graphdef(self.policy)
        own._transformer_state = nnx.state(self.policy)
        own._flattened_transformer_state = jax.tree.leaves(own._transformer_state)
        own._supports_decode_only_last_token, own.eos_ids = False, jnp.array([1])

        def generate(state: Any, tokens: Any, cache: Any, key: Any) -> Any:
            start = sampler._SamplingState(
                decoding_step=jnp.int32(PROMPT - 1), token_buffer=tokens, positions=jnp.cumsum(tokens != 0, 1) - 1,
                cache=cache, done=jnp.zeros(rows, bool), total_sampling_steps=jnp.int32(size), logits_buffer=None,
                logprobs_buffer=jnp.zeros(tokens.shape, jnp.float32), forbidden_token_ids=None, seed=key,
                sampling_mode="top_p", num_input_tokens=PROMPT, temperature=1.0,
                sampling_parameters={"top_p": 1.0, "top_k": None}, beam_search_sampling_state=None,
            )  # fmt: skip
            return own._decode_fn(state, own._prefill_fn(state, start))

        make_cache = jax.eval_shape(lambda: sampler._init_cache(LAYERS, size + 8, rows, KV, HEAD, jnp.bfloat16))
        tokens, key = jax.ShapeDtypeStruct((rows, size), jnp.int32), jax.eval_shape(lambda: jax.random.PRNGKey(0))
        inputs = self.state(self.policy), self.placed(tokens, "fsdp"), self.placed(make_cache, "fsdp"), self.placed(key)
        return jax.jit(generate, donate_argnums=(2,)), inputs


def planned(peer: Peer, topology: Topology, name: str, made: tuple[Any, tuple[Any, ...]], beside: float) -> ProgramPlan:
    function, inputs = made

    def lower() -> Any:
        with peer.mesh:
            return function.lower(*inputs)

    program: Any = SimpleNamespace(name=name, note="", inputs=inputs, lower=lower, turns=NEW, trips=(NEW,))
    return plan_program(Planned(program, "peer", 1, beside), topology)


def on_a_chip(tree: Any) -> float:
    leaves = jax.tree.leaves(tree)
    return float(sum(np.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in leaves))


def peer_plans(topology: Topology, rows: int, minibatches: int) -> list[ProgramPlan]:
    peer = Peer(topology)
    values = {"clip_range_value": 0.2, "pad_id": 0, "eos_id": 1}
    policy = peer.update(
        peer.policy,
        lambda m, b: algo_core.ppo_policy_loss_fn(m, b, ppo_learner.PPOConfig(), pad_id=0, eos_id=1),
        rows // minibatches,
    )
    critic = peer.update(peer.critic, lambda m, b: algo_core.ppo_value_loss_fn(m, b, **values), rows // minibatches)
    held = [on_a_chip(made[1][:2]) for made in (policy, critic)]
    reference = on_a_chip(policy[1][0])
    return [
        planned(peer, topology, "rollout", peer.decode(rows), sum(held) - on_a_chip(policy[1][0]) + reference),
        times(planned(peer, topology, "update, policy", policy, held[1] + reference), minibatches),
        times(planned(peer, topology, "update, critic", critic, held[0] + reference), minibatches),
    ]


def times(plan: ProgramPlan, n: int) -> ProgramPlan:
    """A plan of n executions of the program."""
    work = {k: {"count": c["count"] * n, "bytes": c["bytes"] * n} for k, c in plan.collectives.items()}
    return dataclasses.replace(
        plan,
        flops_per_chip=plan.flops_per_chip * n,
        bytes_per_chip=plan.bytes_per_chip * n,
        collectives=work,
        seconds=None if plan.seconds is None else plan.seconds * n,
    )


def own_plans(topology: Topology, rows: int, minibatches: int) -> list[ProgramPlan]:
    options = {"model.tied": False, "ppo.prompts": rows, "ppo.minibatches": minibatches}
    config = parse(["--config=gsm8k_qwen05b", *(f"--config.{k}={v}" for k, v in options.items())], "").config
    return planned_apart(Job(config, topology.name, (1, len(topology.devices), 1), only=("rollout", "update")))


def main(argv: list[str]) -> None:
    given = dict(a.removeprefix("--").partition("=")[::2] for a in argv)
    topology = open_topology(given.get("topology", "v5e:4x4"))
    rows, minibatches = int(given.get("rows", 128)), int(given.get("minibatches", 8))
    found = {"stepjax": own_plans(topology, rows, minibatches), "tunix": peer_plans(topology, rows, minibatches)}
    if "json" in given:
        print(json.dumps({name: [plan.as_json() for plan in plans] for name, plans in found.items()}))
        return
    print(f"{topology.name}, {rows} rows of {PROMPT} + {NEW} tokens, {minibatches} minibatches; a chip and a round")
    print("| program | HBM, GiB | TFLOP | HBM traffic, GB | sent, GB | collectives | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, plans in found.items():
        for plan in plans:
            memory = "–" if plan.hbm_bytes_per_chip is None else f"{plan.hbm_bytes_per_chip / 2**30:.1f}"
            count = sum(c["count"] for c in plan.collectives.values())
            seconds = plan.failure or ("–" if plan.seconds is None else f"{plan.seconds:.2f} ({plan.bound})")
            print(
                f"| {name}: {plan.name} | {memory} | {plan.flops_per_chip / 1e12:.1f} | "
                f"{plan.bytes_per_chip / 1e9:.0f} | {plan.network_bytes / 1e9:.1f} | {count:.0f} | {seconds} |"
            )


if __name__ == "__main__":
    main(sys.argv[1:])

"""The updates of a PPO round, as traced functions: all passes, one minibatch, one micro-batch."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PRNGKeyArray

from stepjax.config import PPOOptions
from stepjax.credit.divergence import kl_estimate
from stepjax.credit.streams import Stream
from stepjax.credit.whiten import masked_mean
from stepjax.learners.guards import has_guards, pass_guards
from stepjax.learners.kl_control import adapted_coefficient
from stepjax.learners.objectives import Metrics, objective_columns, summed_gradients
from stepjax.learners.optimizers import State, apply_unless
from stepjax.learners.packing import PackingShape, micro_batch, pack
from stepjax.learners.ppo import adaptive_weights
from stepjax.models.definition import Definition, Params
from stepjax.models.trainable import join
from stepjax.trajectory import Trajectory


@dataclasses.dataclass(frozen=True)
class UpdatePasses:
    """All passes over a round's responses; its fields are fixed when the program is compiled.

    Attributes:
      definitions: of the roles that are trained.
      objectives: of each of them, `(params, micro-batch) -> (loss, metrics)`; the policy's takes the
        `coefficient` of the divergence from the reference, too.
      optimizers: by role.
      shape: how a minibatch's responses are packed.
    """

    options: PPOOptions
    streams: tuple[Stream, ...]
    definitions: Mapping[str, Definition]
    objectives: Mapping[str, Any]
    optimizers: Mapping[str, optax.GradientTransformation]
    shape: PackingShape

    def update(
        self, state: State, rows: Trajectory, key: PRNGKeyArray, iteration: Array, *frozen: Params
    ) -> tuple[State, Metrics]:
        """The state after all passes and minibatches, and the means (maxima of `…_max`) of the minibatches' metrics.

        `frozen`: by role, the frozen parameters, where there are any.
        """
        options, size = self.options, rows.tokens.shape[0]
        key = jax.random.fold_in(key, iteration)
        coefficient: Any = state["kl"] if options.kl_target else options.kl
        objectives = self._objectives(coefficient, *frozen)

        def minibatch(carry: tuple[State, Array], chosen: Array) -> tuple[tuple[State, Array], Metrics]:
            state, stopped = carry
            params = {role: state[role]["params"] for role in objectives}
            gradients, metrics = self._gradients(objectives, params, rows, chosen)
            idle, stopped, told = self._idle(stopped, metrics, iteration)
            new, norms = self._applied(state, gradients, idle)
            return (new, stopped), metrics | told | norms

        orders = jax.vmap(lambda k: jax.random.permutation(k, size))(jax.random.split(key, options.epochs))
        chosen = orders.reshape(options.epochs * options.minibatches, -1)
        (state, _), metrics = jax.lax.scan(minibatch, (state, jnp.zeros((), bool)), chosen)
        metrics = {k: jnp.max(v) if k.endswith("_max") else jnp.mean(v) for k, v in metrics.items()}
        if options.kl_target:
            metrics["kl/coefficient"] = coefficient
        return state | self._adapted(state, coefficient, rows), metrics

    def _objectives(self, coefficient: Any, *frozen: Params) -> dict[str, Any]:
        """Of each role `(trained params, micro-batch) -> (loss, metrics)`."""

        def bound(role: str, objective: Any) -> Any:
            more = {"coefficient": coefficient} if role == "policy" else {}
            if not frozen:
                return lambda params, batch: objective(params, batch, **more)
            still = self.definitions[role].taken_apart(frozen[0].get(role, {}))
            return lambda params, batch: objective(join(params, still), batch, **more)

        return {role: bound(role, objective) for role, objective in self.objectives.items()}

    def _gradients(
        self, objectives: dict[str, Any], params: dict[str, Params], rows: Trajectory, chosen: Array
    ) -> tuple[dict[str, Params], Metrics]:
        """Gradients of the roles over the minibatch of the rows `chosen`, and its metrics."""
        packing = pack(rows, chosen, self.shape)
        columns = objective_columns(self.options, self.streams, rows, chosen)
        params = {role: self.definitions[role].taken_apart(of_role) for role, of_role in params.items()}
        return summed_gradients(objectives, params, packing, lambda i: micro_batch(rows, packing, i, columns))

    def _idle(self, stopped: Array, metrics: Metrics, iteration: Array) -> tuple[dict[str, Array], Array, Metrics]:
        """When a role is not updated (one that always is, is not in it), whether the round is stopped, and metrics."""
        options, told = self.options, Metrics()
        idle: dict[str, Array] = {}
        if has_guards(options):
            stopped, skipped = pass_guards(
                options,
                stopped,
                divergence=metrics["kl/update"],
                ratio_max=metrics["policy/ratio_max"],
                ratio_mean=metrics.get("policy/ratio_mean", jnp.ones(())),
            )
            told = {"policy/stopped": stopped.astype(jnp.float32), "policy/skipped": skipped.astype(jnp.float32)}
            idle = dict.fromkeys(self.objectives, stopped | skipped)
        if options.critic_warmup or options.critic_refit:
            alone = trains_critic_alone(options, iteration)
            idle["policy"] = idle.get("policy", False) | alone
            if options.critic_refit and "critic" in self.objectives:
                idle["critic"] = idle.get("critic", False) | ~alone
        return idle, stopped, told

    def _applied(self, state: State, gradients: dict[str, Params], idle: dict[str, Array]) -> tuple[State, Metrics]:
        """The state after one update of the roles that are not idle, and the gradients' global norms."""
        new, norms = dict(state), Metrics()
        for role, gradient in gradients.items():
            optimizer = self.optimizers[role]
            new[role], norms[f"grad_norm/{role}"] = apply_unless(state[role], gradient, optimizer, idle.get(role))
        return new, norms

    def _adapted(self, state: State, coefficient: Any, rows: Trajectory) -> State:
        """The coefficients that follow the round's divergence from the reference."""
        options, found = self.options, State()
        if options.kl_target:
            found["kl"] = adapted_coefficient(
                coefficient, _divergence(rows), target=options.kl_target, gain=options.kl_gain
            )
        if adaptive := adaptive_weights(options.streams):
            found["weights"] = {
                name: adapted_coefficient(
                    state["weights"][name], _divergence(rows), target=o.kl_target, gain=options.kl_gain
                )
                for name, o in adaptive.items()
            }
        return found


def _divergence(rows: Trajectory) -> Array:
    """Mean k3 divergence of a round's sampling policy from the reference, nats per token."""
    assert rows.old_logprobs is not None and rows.ref_logprobs is not None
    return masked_mean(kl_estimate(rows.old_logprobs, rows.ref_logprobs, "k3", mask=rows.mask), rows.mask)


def trains_critic_alone(options: PPOOptions, iteration: Any) -> Any:
    """Whether a round (counted from 1) does not train the policy: a warm-up of the critic, or a refit."""
    alone = iteration <= options.critic_warmup
    return alone | ((iteration - 1) % options.critic_refit == 0) if options.critic_refit else alone

"""Throughput of a run: tokens per second, the model's FLOPs per second, and their fraction of the chips' peak.

`rate/model_tflops` counts what the mathematics needs (`models/flops.py`), not what is recomputed, so that
`rate/mfu`, its share of the devices' peak in bfloat16, can be compared between settings. Devices of unknown peak (a
CPU) have no `rate/mfu`.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import jax

from stepjax.chips import peak_flops
from stepjax.models.definition import Definition
from stepjax.models.flops import TRAINING, forward_flops
from stepjax.runs.ppo_programs import PPOPrograms
from stepjax.runs.responses import Response
from stepjax.runs.setup import Run


class Clock:
    """Seconds by phase, such as those of a round; a trace names the phases, too."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        with jax.profiler.TraceAnnotation(phase):
            yield
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - start


def _rates(flops: float, seconds: float, peak: float | None) -> dict[str, float]:
    found = {"rate/model_tflops": flops / seconds / 1e12}
    return found if peak is None else found | {"rate/mfu": flops / seconds / peak}


class PPORates:
    """Of rounds. The first round of a process, in which programs are compiled, has no figures."""

    def __init__(self, ppo: PPOPrograms, *, prm: bool):
        """`prm`: the run's own process reward model scores the steps."""
        run, options = ppo.run, ppo.options
        self._peak = peak_flops(run.mesh.devices.flat)
        policy, critic = run.policy, run.critic
        trained = [policy] if critic is None or options.critic_frozen else [policy, critic]
        # Forward passes of a round: the rollout's own, score's of policy, reference, critic and reward model, φ's.
        self._passes: list[tuple[float, Definition]] = [(3.0, policy)]
        self._passes += [] if critic is None else [(1.0, critic)]
        self._passes += [(1.0, run.prm)] if prm else []
        if ppo.implicit is not None:
            self._passes.append((float(ppo.implicit.readings + TRAINING * options.implicit.epochs), policy))
        self._passes += [(float(TRAINING * options.epochs), role) for role in trained]
        self._rounds = 0

    def of_round(self, responses: Sequence[Response], seconds: float) -> dict[str, float]:
        """Figures of a round that took `seconds`: response tokens per second, and the FLOPs of the whole round."""
        self._rounds += 1
        if self._rounds == 1:
            return {}
        lengths = [len(r.prompt) + len(r.tokens) for r in responses]
        tokens, pairs = float(sum(lengths)), sum(n * n / 2.0 for n in lengths)
        flops = sum(n * forward_flops(role, tokens=tokens, pairs=pairs) for n, role in self._passes)
        rate = {"rate/tokens": sum(len(r.tokens) for r in responses) / seconds}
        return rate | _rates(flops, seconds, self._peak)


class UpdateRates:
    """Of supervised updates; attention, which depends on how rows are packed, is not in the FLOPs."""

    def __init__(self, run: Run, definition: Definition, tokens: int):
        """`tokens`: those of an update, padding included."""
        self._tokens, self._peak = tokens, peak_flops(run.mesh.devices.flat)
        self._flops = TRAINING * forward_flops(definition, tokens=tokens, pairs=0.0)
        self._since: tuple[int, float] | None = None

    def begin(self, step: int) -> None:
        """After each update is given to the devices: the first call, when the program is compiled, starts the clock."""
        if self._since is None:
            self._since = step, time.perf_counter()

    def at(self, step: int) -> dict[str, float]:
        """Figures of the updates since the last call; {} where there are none yet."""
        assert self._since is not None
        (first, since), now = self._since, time.perf_counter()
        self._since = step, now
        if step == first or now <= since:
            return {}
        seconds = (now - since) / (step - first)
        return {"rate/tokens": self._tokens / seconds} | _rates(self._flops, seconds, self._peak)

    def skip(self) -> None:
        """What came since the last call (an evaluation, a checkpoint) does not count."""
        assert self._since is not None
        self._since = self._since[0], time.perf_counter()

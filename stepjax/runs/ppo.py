"""Stage ppo: rollout, score, credit, update, over and over."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grain
import jax
import numpy as np

from stepjax.config import PPOOptions
from stepjax.data.encoding import Prompts, fitting_prompts
from stepjax.learners.finite import finite_program
from stepjax.learners.optimizers import State, init_state, make_optimizer
from stepjax.learners.ppo import adaptive_weights, credit_program, value_heads
from stepjax.learners.score import score_program
from stepjax.learners.update import abstract_ppo_state, update_program, updates_by_role
from stepjax.models.critics import OWN
from stepjax.models.definition import Params
from stepjax.parallel import batch_sharding, fetch, only_asked_transfers, put, replicated
from stepjax.programs import Program
from stepjax.rewards.signals import check_signals, reads_prm
from stepjax.rollout.generate import RolloutShape
from stepjax.runs.checkpoints import Checkpoints
from stepjax.runs.hack_alarms import PREFIX, Alarms
from stepjax.runs.hack_monitors import has_notes, monitors, proxy_gap
from stepjax.runs.host_signals import HostJudges
from stepjax.runs.metrics import Metrics
from stepjax.runs.progress import progress
from stepjax.runs.responses import Response, ResponseSampler, measure, read_responses
from stepjax.runs.samples import sample_rows
from stepjax.runs.setup import Run, check_finite, check_state, device_scalar
from stepjax.runs.stages import has_stage, stage_params
from stepjax.trajectory import Trajectory


class PPO:
    """The programs of a PPO run and its fixed parameters (reference policy, process reward model).

    Attributes:
      rows: responses a round.
      programs: rollout, score, credit, update, in the order of a round.
    """

    def __init__(self, run: Run, reference: Params, prm: Params | None):
        options = run.config.ppo
        check_signals(options.streams)
        self.run, self.options = run, options
        self.reference, self.prm = reference, prm
        self.rows = options.prompts * options.samples
        shape = RolloutShape(self.rows, options.prompt_tokens, options.max_new_tokens)
        self.sampler = ResponseSampler(run, shape, options.temperature)
        self.judges = HostJudges(options.streams)
        self.notes = has_notes(run.task.problems("train"))
        updates = updates_by_role(options)
        self.optimizers = {
            "policy": make_optimizer(options.policy, updates["policy"]),
            "critic": make_optimizer(options.critic, updates["critic"]),
        }
        self.abstract_state = abstract_ppo_state(options, run.policy, run.critic, self.optimizers, run.mesh)
        self.score = score_program(
            run.policy,
            run.critic,
            run.prm if prm is not None else None,
            run.splitter,
            run.mesh,
            self.sampler.program.outputs(),
            temperature=options.temperature,
        )
        self.credit = credit_program(options, run.mesh, self.score.outputs())
        self.update = update_program(
            options, run.policy, run.critic, self.optimizers, run.mesh, self.credit.outputs()[0]
        )
        self.finite = finite_program(self.abstract_state, run.mesh)
        self.rollout_key, self.update_key = run.key("rollout"), run.key("update")

    @property
    def programs(self) -> tuple[Program, ...]:
        return self.sampler.program, self.score, self.credit, self.update

    def initial_state(self) -> State:
        """Policy at the reference, critic on its trunk with heads that say 0, or on the process reward model."""
        run = self.run
        params = {"policy": self.reference}
        if run.critic is not None:
            given = self._critic_parts(run.critic.shapes)
            params["critic"] = run.critic.sharded_init(run.key("critic"), run.mesh, **given)
        state: State = {
            role: init_state(params[role], self.optimizers[role], self.abstract_state[role], run.mesh)
            for role in params
        }
        if self.options.kl_target:
            state["kl"] = put(np.float32(self.options.kl), replicated(run.mesh))
        if adaptive := adaptive_weights(self.options.streams):
            weights = {name: np.float32(o.weight) for name, o in adaptive.items()}
            state["weights"] = put(weights, replicated(run.mesh))
        return state

    def _critic_parts(self, shapes: Params) -> dict[str, Params]:
        """The trained parameters that a fresh critic of these shapes takes over."""
        reference = {"trunk": self.reference["trunk"]}
        if "trunk" in shapes:
            return reference
        given = {part: reference for part in shapes if part == "shared" or part.startswith(OWN)}
        for head in value_heads(self.options.streams):
            if head.trunk == "prm":
                assert self.prm is not None
                given[OWN + head.stream] = self.prm
        return given

    def iterate(
        self, state: State, prompts: Prompts, chosen: np.ndarray, iteration: int, clock: "Clock"
    ) -> tuple[State, dict[str, float], Trajectory, list[Response]]:
        """One round. `chosen`: the prompt of each of the `rows` responses. Returns the host's figures, too."""
        run, mesh = self.run, self.run.mesh
        with clock("rollout"):
            # The row number holds the iteration: no two responses of a run share a random key.
            ids = np.arange(self.rows) + iteration * self.rows
            rows = self.sampler(state["policy"]["params"], prompts, chosen, self.rollout_key, ids)
            jax.block_until_ready(rows.tokens)
        critic = state["critic"]["params"] if "critic" in state else {}
        # The score program runs while the host reads and judges the texts.
        scored = self.score(state["policy"]["params"], self.reference, critic, self.prm or {}, rows)
        with clock("judge"):
            responses = read_responses(run, [prompts.problems[c] for c in chosen], rows)
        with clock("score"):
            assert scored.steps is not None
            index, end = fetch((scored.steps.index, scored.steps.end))
        host = self.judges(responses, index, end)
        with clock("update"):
            weights = {f"weight/{name}": weight for name, weight in state.get("weights", {}).items()}
            credited, described = self.credit(scored, put(host, batch_sharding(mesh)) | weights)
            state, updated = self.update(state, credited, self.update_key, device_scalar(iteration, mesh))
            figures = fetch({**described, **updated})
        line = {f"true/{k}": v for k, v in measure(responses).items() if k not in ("steps", "tokens", "truncated")}
        line |= {k: float(v) for k, v in figures.items()}
        watched = monitors(responses, notes=self.notes)
        if (neutral := line.get("true/neutral", line.get("prm/neutral"))) is not None:
            watched["neutral"] = neutral
        if self.prm is not None:
            prm = fetch(scored.prm)
            if prm.shape[-1] > 1:  # a single output has no scale to compare
                watched["proxy_gap"] = proxy_gap(prm, host["rating"], end, responses, run.config.prm.target)
            if responses[0].judgements is not None and run.config.prm.target == "step":
                line["prm/agreement"] = _agreement(prm, host["rating"], end)
        line |= {f"{PREFIX}{name}": value for name, value in watched.items()}
        return state, line, credited, responses


def _agreement(prm: np.ndarray, ratings: np.ndarray, end: np.ndarray) -> float:
    """Share of steps whose likeliest class is the exact one."""
    return float((prm[end].argmax(-1) == ratings[end] + 1).mean()) if end.any() else 0.0


class Clock:
    """Seconds by phase of the current round."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - start


def prompt_order(run: Run, prompts: Prompts) -> Callable[[int], np.ndarray]:
    """The prompts of round i, by random access: a shuffled pass over all problems, then the next pass."""
    options = run.config.ppo
    order = grain.MapDataset.range(len(prompts.problems)).seed(run.config.seed + 2).shuffle().repeat()

    def chosen(iteration: int) -> np.ndarray:
        first = iteration * options.prompts
        return np.repeat([order[first + i] for i in range(options.prompts)], options.samples)

    return chosen


def train_ppo(run: Run) -> Params:
    """Trains (or continues, or finds finished) the policy; returns its parameters."""
    options = run.config.ppo
    with Checkpoints(run.checkpoint_folder("ppo")) as checkpoints:
        ppo = PPO(run, stage_params(run, "sft", run.policy), _prm_params(run))
        done = 0
        if found := checkpoints.resume(ppo.abstract_state):
            state, host = found
            done = host["step"]
            if done >= options.iterations:
                return state["policy"]["params"]
        else:
            state = ppo.initial_state()
        problems = run.task.problems("train")
        limit = min(len(problems), options.iterations * options.prompts)
        prompts = fitting_prompts(
            run.tokenizer, problems[:limit], width=options.prompt_tokens, where="config.ppo.prompt_tokens"
        )
        if prompts.left_out:
            print(f"PPO: {prompts.left_out} prompts wider than prompt_tokens={options.prompt_tokens} were left out")
        order = prompt_order(run, prompts)
        with (
            Metrics(run.workdir, "ppo") as metrics,
            progress("PPO", options.iterations, "rounds", done) as bar,
            only_asked_transfers(),
        ):
            metrics.resume(done)
            alarms = Alarms(options.alarm, options.alarm_rounds)
            for logged in metrics.logged():
                alarms.observe(logged)
            for step in range(done + 1, options.iterations + 1):
                clock = Clock()
                state, line, rows, responses = ppo.iterate(state, prompts, order(step - 1), step, clock)
                check_finite(line, "PPO", step)
                alarm = alarms.observe(line)
                for sentence in alarm:
                    bar.say(f"PPO round {step}, alarm: {sentence}")
                told = {f"{PREFIX}alarm": alarm} if alarm else {}
                rang = {f"{PREFIX}alarms": len(alarms.ringing), **told}
                metrics.write(step, {**line, **rang, "seconds": clock.seconds})
                last = step == options.iterations
                if last or step == 1 or step % options.samples_every == 0:
                    metrics.append_samples(step, sample_rows(options.streams, rows, responses, options.log_samples))
                if last or step % options.checkpoint_every == 0:
                    check_state(ppo.finite, state, "PPO", step)
                    metrics.sync()
                    checkpoints.save(step, state, {"step": step})
                bar.advance(1, **_shown(line, options))
            checkpoints.wait()
        return state["policy"]["params"]


def _shown(line: dict[str, float], options: PPOOptions) -> dict[str, float]:
    first = next(iter(options.streams))
    return {"accuracy": line["true/accuracy"], f"reward/{first}": line[f"reward/{first}"], "kl": line["kl/reference"]}


def _prm_params(run: Run) -> Params | None:
    """The process reward model where a stream needs one, or where it can be watched for nothing more."""
    needed = any(reads_prm(s) for s in run.config.ppo.streams.values())
    return stage_params(run, "prm", run.prm) if needed or has_stage(run, "prm") else None

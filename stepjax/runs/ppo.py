"""Stage ppo: rounds of rollout, score, credit and update."""

import contextlib
import time

import jax
import numpy as np

from stepjax.config import PPOOptions
from stepjax.console.progress import progress
from stepjax.distributed import stop as stopping
from stepjax.distributed.watch import activity
from stepjax.errors import Stopped
from stepjax.host_rows import HostRows
from stepjax.learners.finite import finite_program
from stepjax.learners.optimizers import State
from stepjax.learners.ppo import adaptive_weights, value_heads
from stepjax.models.critics import critic_start
from stepjax.models.definition import Params
from stepjax.models.trainable import join
from stepjax.parallel import fetch, only_asked_transfers, put, replicated
from stepjax.rewards.public_prm import PublicPRM
from stepjax.rewards.signal import CORRECT, RATING
from stepjax.runs.alarms import PREFIX, Alarms
from stepjax.runs.branches import Branches, reads_branches
from stepjax.runs.carried_rounds import CarriedRounds, abstract_saved, opened, saved
from stepjax.runs.dead_rounds import DeadRounds
from stepjax.runs.dynamic_sampling import Draw, DynamicSampling, Filled
from stepjax.runs.host_signals import HostRewards
from stepjax.runs.implicit_reward import belief_gap, outcome_figures
from stepjax.runs.monitors import has_notes, monitors, prm_monitors
from stepjax.runs.origins import StageOrigin
from stepjax.runs.policy_exports import PolicyExports
from stepjax.runs.ppo_programs import PPOPrograms
from stepjax.runs.ppo_sampling import runs_ahead
from stepjax.runs.profile import Profile
from stepjax.runs.prompt_order import PromptOrder, sampled_prompts
from stepjax.runs.public_prm import PublicScores, load_public_prm
from stepjax.runs.response_figures import SeparatorWatch, measure
from stepjax.runs.responses import Response, share_responses
from stepjax.runs.samples import sample_rows
from stepjax.runs.setup import Run, check_finite, check_state
from stepjax.runs.stages import prm_params, stage_params
from stepjax.runs.step_judge import StepJudge, judge_figures
from stepjax.runs.throughput import Clock, PPORates
from stepjax.runs.turn_figures import turn_figures
from stepjax.trajectory import Trajectory
from stepjax.workdir.checkpoints import Checkpoints
from stepjax.workdir.sinks import open_metrics


class PPO(PPOPrograms):
    """The programs of a PPO run and its fixed parameters (reference policy, process reward model)."""

    def __init__(self, run: Run, reference: Params, prm: Params | None, public: PublicPRM | None = None):
        """`prm`: parameters of the run's own process reward model; `public`: another one in its place."""
        super().__init__(run, prm=prm is not None, public=public is not None)
        self.reference, self.prm = reference, prm
        self.ahead: dict[int, Draw] = {}  # rollouts that were started a round before their own
        self.separated = SeparatorWatch(run.splitter.separator)
        self.hosts = HostRows(run.mesh, self.rows)
        self.public = None if public is None else PublicScores(public, self.hosts)
        self.refill: DynamicSampling | None = None
        if most := self.options.refill:
            self.refill = DynamicSampling(self.round, self.hosts, run.mesh, samples=self.options.samples, most=most)
        self.carried = CarriedRounds(run, self.sampler.shape) if self.options.carry else None
        processes = {"process": jax.process_index(), "processes": jax.process_count()}
        self.host_rewards = HostRewards(
            self.options.streams,
            run.task.problems("train"),
            lambda: StepJudge(self.options.judge, run.workdir / "judge", **processes),
        )
        self.branches = Branches(run, self.options.mc) if reads_branches(self.options) else None
        self.notes = has_notes(run.task.problems("train"))
        self.frozen = self._frozen()
        self.finite = finite_program(self.abstract_state, run.mesh)
        self.rollout_key, self.update_key, self.implicit_key = map(run.key, ("rollout", "update", "implicit"))

    def initial_state(self) -> State:
        """Policy at the reference, critic on its trunk with heads of value 0, or on the process reward model."""
        run = self.run
        params = {"policy": self.reference}
        if run.critic is not None:
            given = self._critic_start(run.critic.shapes)
            params["critic"] = run.critic.sharded_init(run.key("critic"), run.mesh, **given)
        state = self.init_roles(params)
        if self.options.kl_target:
            state["kl"] = put(np.float32(self.options.kl), replicated(run.mesh))
        if adaptive := adaptive_weights(self.options.streams):
            weights = {name: np.float32(o.weight) for name, o in adaptive.items()}
            state["weights"] = put(weights, replicated(run.mesh))
        return state

    def _critic_start(self, shapes: Params) -> dict[str, Params]:
        return critic_start(value_heads(self.options.streams), shapes, self.reference, self.prm)

    def _frozen(self) -> dict[str, Params]:
        """The frozen parameters of each role: the reference's own, shared; {} where all are trained."""
        found: dict[str, Params] = {}
        for role, trainable in self.trainables.items():
            if trainable.frozen_shapes:
                whole = self.reference if role == "policy" else self._critic_start(trainable.definition.shapes)
                found[role] = trainable.frozen_of(whole)
        return found

    def whole(self, state: State, role: str) -> Params:
        """All parameters of a role: those that are trained and those that are frozen."""
        return join(state[role]["params"], self.frozen.get(role, {}))

    def sample(self, policy: Params, order: PromptOrder) -> Draw:
        """Starts the next rollout."""
        number, chosen = order.next()
        waves = self.round.start(policy, order.prompts, chosen, self.rollout_key, self.row_ids(number))
        return waves, [order.prompts.problems[c] for c in chosen]

    def drawn(self, policy: Params, order: PromptOrder, iteration: int) -> tuple[Draw, dict[str, float]]:
        """The round's rollout, started here or before, and figures of responses that went on."""
        if self.carried is None:
            return (self.ahead.pop(iteration) if iteration in self.ahead else self.sample(policy, order)), {}
        found = self.carried(policy, order, self.rollout_key, iteration, self.sampler.shape)
        return ([(found.rows, found.occupancy)], found.problems), found.figures

    def iterate(
        self, state: State, order: PromptOrder, iteration: int, clock: Clock, *, ahead: bool = False
    ) -> tuple[State, dict[str, float], Trajectory, list[Response]]:
        """One round, with the host's figures. `ahead`: the next rollout starts before this round's update."""
        run = self.run
        policy = self.whole(state, "policy")
        filled: Filled | None = None
        with clock("rollout"):
            (waves, problems), unread = self.drawn(policy, order, iteration)
        if self.refill is None:
            rows = self.round.whole(waves)
        else:
            self.refill.sampler = self.round  # which may be another one since the last round
            filled = self.refill(
                (waves, problems),
                lambda: self.sample(policy, order),
                lambda: clock("rollout"),
                lambda: clock("rate"),
                f"PPO round {iteration}",
            )
            rows, waves, problems = filled.rows, filled.waves, filled.problems
        critic = self.whole(state, "critic") if "critic" in state else {}
        # The devices go on with the score program, and the next rollout, while the host reads and rates the texts.
        scored = self.score(policy, self.reference, critic, self.prm or {}, rows)
        if ahead:
            self.ahead[iteration + 1] = self.sample(policy, order)
        if filled is None:
            waiting, rating = (lambda: clock("rollout")), (lambda: clock("rate"))
            own = self.round.read(problems, waves, waiting, rating, self.host_rewards.begin)
        else:
            own = filled.own
            self.host_rewards.begin(own)
        with clock("score"):
            assert scored.steps is not None
            index, end = self.hosts.local((scored.steps.index, scored.steps.end))
        with clock("rate"):
            responses = share_responses(self.hosts, problems, own)
        values = None
        if self.branches is not None:
            with clock("mc"):
                values, found = self.branches(policy, responses, iteration, self.hosts.mine)
            unread |= found
        with clock("rate"):
            host = self.host_rewards(own, index, end, values)
            given = self.hosts.put(host)
        state, scored, paid = self._paid(state, scored, given[CORRECT], responses, (index, end), iteration, clock)
        with clock("update"):
            weights = {f"weight/{name}": weight for name, weight in state.get("weights", {}).items()}
            credited, described = self.credit(scored, given | weights)
            state, updated = self.updated(state, credited, self.update_key, iteration, self.frozen)
            figures = fetch({**described, **updated}) | self.used(waves)
        exact = measure(responses, run.task, tags=bool(run.config.prompt.structure))
        line = {f"true/{k}": v for k, v in exact.items() if k not in ("steps", "tokens", "truncated")}
        line |= {k: float(v) for k, v in figures.items()} | unread | paid | turn_figures(responses)
        line |= {} if filled is None else filled.figures
        if (rater := self.host_rewards.judge) is not None:
            line |= judge_figures(self.hosts.gather(rater.last), rater.options)
        line["true/separated"] = self.separated(responses, f"PPO round {iteration}: ")
        watched = monitors(responses, notes=self.notes)
        if (neutral := line.get("true/neutral", line.get("prm/neutral"))) is not None:
            watched["neutral"] = neutral
        if scored.prm is not None:
            prm, ratings, end = (self.hosts.gather(x) for x in (self.hosts.local(scored.prm), host[RATING], end))
            gap, line_of_prm = prm_monitors(prm, ratings, end, responses, run.config.prm.target)
            watched, line = watched | gap, line | line_of_prm
        line |= {f"{PREFIX}{name}": value for name, value in watched.items()}
        return state, line, credited, responses

    def _paid(
        self,
        state: State,
        scored: Trajectory,
        correct: jax.Array,
        responses: list[Response],
        steps: tuple[np.ndarray, np.ndarray],
        iteration: int,
        clock: Clock,
    ) -> tuple[State, Trajectory, dict[str, float]]:
        """What models beside the policy's own give for the responses: a public one, and φ, which trains on them.

        `correct`: bool[B]; `steps`: index and end of this process's rows.
        """
        figures: dict[str, float] = {}
        if self.public is not None:
            with clock("prm"):
                scored, figures = self.public(scored, responses, *steps, where=f"PPO round {iteration}")
        if self.implicit is not None:
            with clock("implicit"):
                own, scored, odds, trained = self.implicit(
                    state["implicit"], self.reference, scored, correct, iteration, self.implicit_key
                )
                log_odds = self.hosts.gather(self.hosts.local(odds))
                figures |= outcome_figures(log_odds, responses) | {k: float(v) for k, v in fetch(trained).items()}
            figures[f"{PREFIX}implicit_gap"] = belief_gap(log_odds, responses)
            state = state | {"implicit": own}
        return state, scored, figures


def train_ppo(run: Run) -> Params:
    """Trains (or continues, or finds finished) the policy; returns its parameters."""
    options = run.config.ppo
    origin = StageOrigin(run, "ppo")
    with Checkpoints(run.checkpoint_folder("ppo"), origin=origin.write) as checkpoints:
        public = load_public_prm(run) if run.config.prm.path else None
        ppo = PPO(run, stage_params(run, "sft", run.policy), None if public else prm_params(run), public)
        done = drawn = 0
        if found := checkpoints.resume(abstract_saved(ppo.abstract_state, ppo.carried)):
            state, host = opened(found[0], ppo.carried), found[1]
            done, drawn = host["step"], host.get("rollouts", host["step"])
            if done >= options.iterations:
                return ppo.whole(state, "policy")
            ppo.recall_lengths(host)
        else:
            state = ppo.initial_state()
        origin.begin()
        spare = 0 if ppo.carried is None else ppo.carried.spare
        prompts = sampled_prompts(options, run.prompt, run.task.problems("train"), spare)
        order = PromptOrder(options, prompts, run.config.seed, drawn)
        with (
            open_metrics(run.workdir, "ppo", run.config) as metrics,
            progress("PPO", options.iterations, "rounds", done) as bar,
            contextlib.closing(ppo.host_rewards),
            only_asked_transfers(),
            stopping.current.region(done) as stop,
            Profile(run.config.profile, run.workdir, "ppo") as profile,
        ):
            metrics.resume(done)
            rates = PPORates(ppo, prm=ppo.prm is not None)
            alarms = Alarms(options.alarm, options.alarm_rounds)
            exports = PolicyExports(run)
            dead = DeadRounds(options)
            for logged in metrics.logged():
                alarms.observe(logged)
                dead.observe(logged, logged["step"])
            for step in range(done + 1, options.iterations + 1):
                clock = Clock()
                activity.now(f"PPO round {step}")
                began = time.perf_counter()
                with profile.step(step):
                    ahead = runs_ahead(options, step)
                    state, line, rows, responses = ppo.iterate(state, order, step, clock, ahead=ahead)
                ppo.observe_lengths(float(np.mean([len(r.prompt) + len(r.tokens) for r in responses])))
                line |= rates.of_round(responses, time.perf_counter() - began)
                check_finite(line, "PPO", step)
                alarm = alarms.observe(line)
                for sentence in alarm:
                    bar.say(f"PPO round {step}, alarm: {sentence}")
                for sentence in dead.observe(line, step):
                    bar.say(f"PPO round {step}: {sentence}")
                told = {f"{PREFIX}alarm": alarm} if alarm else {}
                rang = {f"{PREFIX}alarms": len(alarms.ringing), **told}
                metrics.write(step, {**line, **rang, "seconds": clock.seconds})
                last = step == options.iterations
                ending = not last and stop.at(step)
                if last or step == 1 or step % options.samples_every == 0:
                    metrics.append_samples(step, sample_rows(options.streams, rows, responses, options.log_samples))
                # Before the checkpoint: a run that is continued there does not come back to this round.
                if exports.due(step):
                    check_state(ppo.finite, state, "PPO", step)
                    exports.write(step, ppo.whole(state, "policy"))
                if last or ending or step % options.checkpoint_every == 0:
                    check_state(ppo.finite, state, "PPO", step)
                    metrics.sync()
                    # A rollout that runs ahead is drawn again by a run that is continued here.
                    host = {"step": step, "rollouts": order.drawn - len(ppo.ahead), **ppo.lengths_seen()}
                    checkpoints.save(step, saved(state, ppo.carried), host)
                checkpoints.raise_failed()
                if ending:
                    checkpoints.wait()
                    raise Stopped(f"{stop.reason}: PPO round {step} is saved", interrupted=stop.interrupted)
                bar.advance(1, **_shown(line, options))
            checkpoints.wait()
        return ppo.whole(state, "policy")


def _shown(line: dict[str, float], options: PPOOptions) -> dict[str, float]:
    first = next(iter(options.streams))
    return {"accuracy": line["true/accuracy"], f"reward/{first}": line[f"reward/{first}"], "kl": line["kl/reference"]}

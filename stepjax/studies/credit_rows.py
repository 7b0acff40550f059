"""The responses of a writer as scored rows: what rollout, score program and host would hand to the credit program.

A step's tokens are all but settled by the move that it makes; the move itself is chosen at the step's last token. The
environment says a token after each step, so that a step is a turn, too.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

from stepjax.config import PPOOptions, StreamOptions
from stepjax.rewards import signals
from stepjax.rewards.later import MonteCarloReward
from stepjax.rewards.reward_streams import has_critic, host_figures
from stepjax.rewards.signal import CORRECT, RATING, HostSignals
from stepjax.rewards.signals import SIGNALS
from stepjax.steps import Steps
from stepjax.studies.credit_writer import ANSWER, FALSE, MOVES, REPAIR, RESTATE, RIGHT, Writer, Written
from stepjax.trajectory import Trajectory

LENGTHS = np.array([6, 6, 3, 7, 2])
"""Tokens of each move, by number."""

State = tuple[np.ndarray, ...]
"""Derived, error, restated: each state's index in the writer's tables."""

FORCED = 0.98
"""Probability of a token that its step leaves no choice of."""


@dataclasses.dataclass(frozen=True)
class Judges:
    """How good the scores are.

    Attributes:
      value_prm: the process reward model gives values, not bad, neutral or good.
      prm_errors: share of steps that the process reward model takes for one of another class.
      value_noise: standard deviation of a value PRM's error on a step.
      critic_noise: standard deviation of a critic's error; the same on all visits to a state.
      local: ratings look at each step alone ("local"): what rests on a standing error is as good as if there were none.
    """

    value_prm: bool = False
    prm_errors: float = 0.1
    value_noise: float = 0.1
    critic_noise: float = 0.1
    local: bool = False

    def rate(self, move: np.ndarray, error: np.ndarray) -> np.ndarray:
        """The exact ratings of steps."""
        return rate(move, np.where(move == REPAIR, error, 0) if self.local else error)


EXACT = Judges(prm_errors=0.0, value_noise=0.0, critic_noise=0.0)


def rate(move: np.ndarray, error: np.ndarray) -> np.ndarray:
    """RegisterChain's ratings ("global"): what rests on a standing error is bad, unless it repairs it.

    A repair where none stands is neutral, as restating is.
    """
    good = np.isin(move, (RIGHT, ANSWER)) & (error == 0) | (move == REPAIR) & (error == 1)
    return np.where(good, 1, np.where(np.isin(move, (RESTATE, REPAIR)) & (error == 0), 0, -1))


def width_of(steps: int) -> int:
    """Columns that hold every response of K = `steps` derivations."""
    longest = (steps + 1) * (LENGTHS[RESTATE] + LENGTHS[REPAIR] + 2) + steps * (LENGTHS[RIGHT] + 1) + LENGTHS[ANSWER]
    return -(-int(longest + 2) // 64) * 64


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the steps lie. `last`: the column of each step's last token, `[B, S]`, −1 where there is no step."""

    last: np.ndarray
    index: np.ndarray
    env: np.ndarray
    length: np.ndarray


def lay_out(written: Written, width: int, turn: int = 0) -> Layout:
    """Columns of the steps; the prompt is one token. The environment says a token after every step or, with `turn`,
    after every `turn` derivations."""
    there = written.move >= 0
    lengths = np.where(there, LENGTHS[written.move], 0)
    reply = there & (np.isin(written.move, (RIGHT, FALSE)) & ((written.derived + 1) % turn == 0) if turn else True)
    ends = 1 + np.cumsum(lengths + reply, axis=1) - reply  # one past a step's last token
    rows, steps = np.nonzero(there)
    index, env = np.full((len(there), width), -1), np.zeros((len(there), width), bool)
    for length in range(LENGTHS.max()):
        within = lengths[rows, steps] > length
        index[rows[within], ends[rows, steps][within] - 1 - length] = steps[within]
    rows, steps = np.nonzero(reply)
    env[rows, ends[rows, steps]] = True
    final = ends[np.arange(len(there)), there.sum(1) - 1]
    env[np.arange(len(there)), final] = False  # nobody replies to an answer
    return Layout(np.where(there, ends - 1, -1), index, env, final - 1)


def scored_rows(
    options: PPOOptions,
    writer: Writer,
    written: Written,
    width: int,
    judges: Judges,
    rng: np.random.Generator,
    turn: int = 0,
) -> tuple[Trajectory, HostSignals, Layout]:
    """Rows and what the host says of them, and where their steps lie; `turn` as in `lay_out`."""
    layout = lay_out(written, width, turn)
    rows, steps = np.nonzero(written.move >= 0)
    place = rows, layout.last[rows, steps]
    state = tuple(x[rows, steps] for x in (written.derived, written.error, written.restated))
    move = written.move[rows, steps]

    def on_last(values: np.ndarray, fill: float = 0.0) -> np.ndarray:
        found = np.where(layout.index >= 0, fill, 0.0).astype(np.float32)
        found[place] = values
        return found

    logprobs = on_last(np.log(writer.moves[(*state, move)]), np.log(FORCED))
    reference = on_last(np.log(writer.reference[(*state, move)]), np.log(FORCED))
    tokens = np.where(layout.index >= 0, 1, 0).astype(np.int32)
    tokens[place] = 2 + move + len(MOVES) * np.where(move == FALSE, rng.integers(0, 3, len(move)), 0)
    end = np.zeros(layout.index.shape, bool)
    end[place] = True
    scores = (_value_scores if judges.value_prm else _class_scores)(writer, state, move, judges, rng)
    prm = np.zeros((*layout.index.shape, scores.shape[-1]), np.float32)
    prm[place] = scores
    heads = [_critic(o, writer, judges, turn) for o in options.streams.values()]
    values = np.zeros((len(tokens), len(heads), width), np.float32)
    b, t = np.nonzero(layout.index >= 0)
    at = tuple(x[b, layout.index[b, t]] for x in (written.derived, written.error, written.restated))
    for n, head in enumerate(heads):
        values[b, n, t] = head[at]
    count = len(tokens)
    found = Trajectory(
        tokens=jnp.asarray(tokens),
        prompt_length=jnp.ones(count, jnp.int32),
        response_length=jnp.asarray(layout.length, jnp.int32),
        finished=jnp.ones(count, bool),
        logprobs=jnp.asarray(logprobs),
        prompt_width=1,
        env_tokens=jnp.asarray(layout.env),
        steps=Steps(jnp.asarray(layout.index, jnp.int32), jnp.asarray(end)),
        old_logprobs=jnp.asarray(logprobs),
        ref_logprobs=jnp.asarray(reference),
        entropy=jnp.zeros(tokens.shape, jnp.float32),
        values=jnp.asarray(values),
        bootstrap=jnp.zeros((count, len(heads)), jnp.float32),
        prm=jnp.asarray(prm),
    )
    host = {RATING: jnp.asarray(on_last(judges.rate(move, state[1]))), CORRECT: jnp.asarray(written.right)}
    host |= {figure: jnp.ones(count, jnp.float32) for figure in host_figures(options.streams)}
    for name, o in options.streams.items():
        if SIGNALS[o.signal].text_reward is MonteCarloReward:
            right = np.minimum(writer.quality[(*state, move)], 1.0)  # where all completions are, rounding may exceed 1
            share = rng.binomial(options.mc.completions, right) / options.mc.completions
            host[f"stream/{name}"] = jnp.asarray(on_last(o.bad + (o.good - o.bad) * share))
    return found, host, layout


def _class_scores(writer: Writer, state: State, move: np.ndarray, judges: Judges, rng: np.random.Generator):
    """P(bad), P(neutral), P(good) of each step: .9 for the class that the model takes it for."""
    rating = judges.rate(move, state[1])
    mistaken = rng.random(len(move)) < judges.prm_errors
    taken = np.where(mistaken, (rating + 1 + rng.integers(1, 3, len(move))) % 3, rating + 1)
    return np.full((len(move), 3), 0.05) + 0.85 * np.eye(3)[taken]


def _value_scores(writer: Writer, state: State, move: np.ndarray, judges: Judges, rng: np.random.Generator):
    """1 − V, V after each step."""
    value = np.clip(writer.quality[(*state, move)] + judges.value_noise * rng.normal(size=len(move)), 0.0, 1.0)
    return np.stack([1 - value, value], -1)


def _critic(options: StreamOptions, writer: Writer, judges: Judges, turn: int) -> np.ndarray:
    """A head's value in each state: what its stream pays on average, and an error of its own."""
    if not has_critic(options):
        return np.zeros_like(writer.value)
    rewards = SIGNALS[options.signal].rewards
    if rewards is signals.outcome:
        exact = options.bad + (options.good - options.bad) * writer.value
    elif rewards in (signals.prm, signals.verifier):
        grid = np.indices(writer.moves.shape)
        paid = np.array([options.bad, options.neutral, options.good])[judges.rate(grid[3], grid[1]) + 1]
        if rewards is signals.prm:
            paid = 0.85 * paid + 0.05 * (options.bad + options.neutral + options.good)
        exact = writer.expected(paid, ahead=options.horizon != "step", turn=turn if options.horizon == "turn" else 0)
    else:
        raise ValueError(f"no critic of signal {options.signal!r}")
    return exact + judges.critic_noise * (options.good - options.bad) * writer.critic_error

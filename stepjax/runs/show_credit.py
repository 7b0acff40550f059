"""`stepjax show credit`: what a config's streams make of a small group of responses, token by token."""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from stepjax.config import PPOOptions
from stepjax.learners.ppo import adaptive_weights, credited, make_streams
from stepjax.parallel import fetch
from stepjax.rewards.reward_streams import host_figures
from stepjax.rewards.signal import CORRECT, RATING, HostSignals
from stepjax.rewards.signals import SIGNALS
from stepjax.runs.check import check_credit
from stepjax.steps import Steps
from stepjax.trajectory import Trajectory, Turns


@dataclasses.dataclass(frozen=True)
class Example:
    """A response: its tokens (one that an environment wrote begins with `<`), the rating of each step, its end."""

    text: str
    ratings: tuple[int, ...]
    correct: bool
    finished: bool = True


EXAMPLES = (
    Example("b = 7 + 5 ; <12 so b = 2 ; c = 6 ; 6", (1, 1, 1, 1), True),
    Example("b = 7 + 5 ; <12 so b = 3 ; c = 9 ; 9", (1, -1, 1, -1), False),
    Example("b = 2 ; b = 2 ; c = 6 ; 6", (1, 0, 1, 1), True),
    Example("b = 7 ; b = 7 ; b = 7 ; b =", (-1, -1, -1, -1), False, finished=False),
)
"""Four responses to the problem a = 7; b = a + 5; c = 3b; what is c (modulo 10)? A step ends with `;`."""

PROMPT = ("?c",)


def show_credit(options: PPOOptions) -> str:
    """Rewards, values, advantages and weights of the example's tokens, a table a response.

    The responses are made up, and so are what no text has: probabilities, PRM scores, implicit rewards and values. With
    `ppo.samples` of 4 or more they are one group, with 2 or 3 two of them, else four.

    Raises:
      UserError: the streams or the options of the loss do not fit each other.
    """
    check_credit(options)
    streams = make_streams(options.streams)
    group = 4 if options.samples >= 4 else 2 if options.samples >= 2 else 1
    options = dataclasses.replace(options, samples=group)
    rows, host = example_rows(len(streams)), example_signals(options)
    found, _ = jax.jit(functools.partial(credited, options, streams))(rows, host)
    found = fetch(found)
    names = [stream.name for stream in streams]
    parts = [
        f"{len(EXAMPLES)} made-up responses in groups of {group}; per stream: reward, value of its critic, advantage"
    ]
    for b, example in enumerate(EXAMPLES):
        verdict = ("right" if example.correct else "wrong") if example.finished else "truncated"
        critics = [stream.critic for stream in streams]
        parts.append(f"response {b + 1}, {verdict}\n{_table(found, b, names, critics)}")
    return "\n\n".join(parts)


def _table(rows: Trajectory, b: int, names: Sequence[str], critics: Sequence[bool]) -> str:
    assert rows.steps is not None and rows.rewards is not None and rows.values is not None
    assert rows.advantages is not None and rows.policy_weight is not None and rows.old_logprobs is not None
    header = ["token", "step", "turn", "p"]
    for name, critic in zip(names, critics, strict=True):
        header += [name, *(["value"] if critic else []), "A"]
    lines, turn = [[*header, "weight"]], 1
    mask = np.asarray(rows.mask)
    for word, t in zip(EXAMPLES[b].text.split(), range(len(PROMPT), mask.shape[1]), strict=False):
        if not mask[b, t]:
            turn += 1
            lines.append([word, *["–"] * len(header)])
            continue
        line = [word, str(rows.steps.index[b, t] + 1), str(turn), f"{np.exp(rows.old_logprobs[b, t]):.2f}"]
        for i, critic in enumerate(critics):
            line += [_figure(rows.rewards[b, i, t])]
            line += [_figure(rows.values[b, i, t])] if critic else []
            line += [_figure(rows.advantages[b, i, t])]
        trains = rows.trained is None or rows.trained[b, t]
        lines.append([*line, _figure(rows.policy_weight[b, t]) if trains else "not trained"])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  " + "  ".join(x.rjust(w) for x, w in zip(line, widths, strict=True)) for line in lines)


def _figure(x: Array | float) -> str:
    x = float(x)
    return "0" if x == 0 else f"{x:+.3f}"


def example_rows(streams: int) -> Trajectory:
    """The example as the score program would leave it."""
    words = [example.text.split() for example in EXAMPLES]
    start, width = len(PROMPT), len(PROMPT) + max(map(len, words))
    b = len(words)
    vocabulary = sorted({word for row in words for word in row})
    tokens, index = np.zeros((b, width), np.int32), np.full((b, width), -1, np.int32)
    env, end = np.zeros((b, width), bool), np.zeros((b, width), bool)
    for i, row in enumerate(words):
        step: int = 0
        for t, word in enumerate(row, start):
            tokens[i, t] = 1 + vocabulary.index(word)
            env[i, t] = word.startswith("<")
            if not env[i, t]:
                index[i, t], end[i, t] = step, word == ";" or t + 1 == start + len(row)
                step += int(word == ";")
    mask = index >= 0
    # Likely and unlikely tokens by turns; the reference a little less sure.
    columns = np.arange(width)
    # An environment that rates a turn as its last step is rated; the one that a truncation cut off is not.
    last = mask & (columns == np.max(np.where(mask, columns, -1), axis=1, keepdims=True))
    finished = np.array([[example.finished] for example in EXAMPLES])
    rated = (mask & np.pad(env, ((0, 0), (0, 1)))[:, 1:]) | (last & finished)
    ratings = np.array([[EXAMPLES[i].ratings[max(k, 0)] for k in row] for i, row in enumerate(index)], np.float32)
    probability = np.where(mask, np.array([0.95, 0.6, 0.85, 0.15, 0.97])[(3 * columns + tokens) % 5], 1.0)
    old = np.log(probability).astype(np.float32)
    ref = np.where(mask, np.log(0.5 + 0.4 * probability), 0.0).astype(np.float32)
    values = np.where(mask, 0.5 + 0.02 * (columns - start) * np.array([[1.0], [-1.0], [1.0], [-1.0]]), 0.0)
    score = {1: (0.05, 0.1, 0.85), 0: (0.1, 0.8, 0.1), -1: (0.8, 0.15, 0.05)}
    prm = np.zeros((b, width, 3), np.float32)
    # A little for every token of a right response, and for the last one of a step as it is rated.
    implicit = np.where(mask, [[0.02 if example.correct else -0.02] for example in EXAMPLES], 0.0).astype(np.float32)
    for i, example in enumerate(EXAMPLES):
        for last in np.flatnonzero(end[i]):
            prm[i, last] = score[example.ratings[index[i, last]]]
            implicit[i, last] += 0.1 * example.ratings[index[i, last]]
    return Trajectory(
        tokens=jnp.asarray(tokens),
        prompt_length=jnp.full(b, start, jnp.int32),
        response_length=jnp.asarray([len(row) for row in words], jnp.int32),
        finished=jnp.asarray([example.finished for example in EXAMPLES]),
        logprobs=jnp.asarray(old),
        prompt_width=start,
        env_tokens=jnp.asarray(env),
        steps=Steps(jnp.asarray(index), jnp.asarray(end)),
        old_logprobs=jnp.asarray(old),
        ref_logprobs=jnp.asarray(ref),
        entropy=jnp.zeros((b, width), jnp.float32),
        values=jnp.asarray(np.repeat(values[:, None], streams, axis=1), jnp.float32),
        bootstrap=jnp.asarray([[0.0 if example.finished else 0.4] * streams for example in EXAMPLES], jnp.float32),
        prm=jnp.asarray(prm),
        implicit=jnp.asarray(implicit),
        turns=Turns(jnp.asarray(np.where(rated, ratings, 0.0)), jnp.asarray(rated), jnp.zeros(b, jnp.int32)),
    )


def example_signals(options: PPOOptions) -> HostSignals:
    """What the host would say of the example: ratings, grades, and rewards of texts that pay as the ratings do."""
    rows = example_rows(1)
    assert rows.steps is not None
    index, end = np.asarray(rows.steps.index), np.asarray(rows.steps.end)
    ratings = np.zeros(index.shape, np.float32)
    for b, example in enumerate(EXAMPLES):
        at = np.flatnonzero(end[b])
        ratings[b, at] = [example.ratings[int(k)] for k in index[b, at]]
    host = {RATING: jnp.asarray(ratings), CORRECT: jnp.asarray([example.correct for example in EXAMPLES])}
    host |= {figure: jnp.ones(len(EXAMPLES), jnp.float32) for figure in host_figures(options.streams)}
    for name, stream in options.streams.items():
        if SIGNALS[stream.signal].text_reward is not None:
            paid = np.where(ratings > 0, stream.good, np.where(ratings < 0, stream.bad, stream.neutral))
            host[f"stream/{name}"] = jnp.asarray(np.where(end, paid, 0.0), jnp.float32)
    return host | {f"weight/{name}": jnp.float32(o.weight) for name, o in adaptive_weights(options.streams).items()}

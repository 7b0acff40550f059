"""What each estimator is, as loops over the tokens of a row, and random batches to hold them against."""

import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stepjax.credit.streams import Stream

B, T, G = 4, 9, 2  # one shape for all examples: compiled once a dtype
HORIZONS = ("step", "turn", "response", 0.5)
STREAMS = [
    *(Stream("gae", h, gamma=0.9375, lam=0.875) for h in HORIZONS),
    *(Stream("return", h, gamma=0.9375, estimator="return") for h in HORIZONS),
    Stream("value", estimator="value"),
    Stream("progress", estimator="progress"),
    *(Stream("group", h, gamma=0.9375, estimator="group") for h in HORIZONS),
    *(Stream("rloo", h, gamma=0.9375, estimator="rloo") for h in HORIZONS),
]
N = len(STREAMS)
DTYPES = {"float16": jnp.float16, "bfloat16": jnp.bfloat16, "float32": jnp.float32}


def reals(shape):
    return hnp.arrays(np.float32, shape, elements=st.floats(-4, 4, width=16))


def bools(shape):
    return hnp.arrays(np.bool_, shape)


@st.composite
def batches(draw, dtype=None):
    """What `combine` takes: random masks with gaps, steps and turns of any length, truncated rows, unrated steps."""
    dtype = DTYPES[draw(st.sampled_from(sorted(DTYPES)))] if dtype is None else dtype

    def stored(x):
        return np.asarray(jnp.asarray(x, dtype))

    scored = draw(bools((1, B, T))) | draw(st.booleans())
    return {
        "rewards": stored(draw(reals((1, B, T))).repeat(N, 0)),
        "values": stored(draw(reals((1, B, T))).repeat(N, 0)),
        "mask": draw(bools((B, T))),
        "step_end": draw(bools((B, T))),
        "bootstrap": stored(draw(reals((1, B))).repeat(N, 0)),
        "turn_end": draw(bools((B, T))),
        "scored": scored.repeat(N, 0),
        "first": stored(draw(reals((1, B))).repeat(N, 0)),
        "outcome": stored(draw(reals((1, B))).repeat(N, 0)),
        "finished": draw(bools(B)),
    }


def factor(stream, batch, b, t):
    """c_t, before the next masked token."""
    if stream.horizon == "turn":
        return 0.0 if batch["turn_end"][b, t] else 1.0
    discount = {"step": 0.0, "response": 1.0}.get(stream.horizon, stream.horizon)
    return discount if batch["step_end"][b, t] else 1.0


def steps(batch, b):
    """The masked tokens of each step of a row."""
    found, step = [], []
    for t in np.flatnonzero(batch["mask"][b]):
        step.append(int(t))
        if batch["step_end"][b, t]:
            found, step = [*found, step], []
    return [*found, step] if step else found


def sums(stream, batch, earned):
    """Σ over the later tokens of the row, each term with the product of all that lies between, by definition."""
    out = np.zeros((B, T))
    for b in range(B):
        tokens = np.flatnonzero(batch["mask"][b])
        for i, t in enumerate(tokens):
            passed = 1.0
            for s in tokens[i:]:
                out[b, t] += passed * earned[b, s]
                passed *= stream.gamma * factor(stream, batch, b, s)
    return out


def loop_gae(stream, batch, rewards):
    values, bootstrap = batch["values"][0].astype(np.float64), batch["bootstrap"][0].astype(np.float64)
    out = np.zeros((B, T))
    for b in range(B):
        value, advantage, followed = bootstrap[b], 0.0, False
        for t in np.flatnonzero(batch["mask"][b])[::-1]:
            c = stream.gamma * (factor(stream, batch, b, t) if followed else 1.0)
            advantage = rewards[b, t] + c * value - values[b, t] + c * stream.lam * advantage
            value, followed, out[b, t] = values[b, t], True, advantage
    return out


def loop_value(stream, batch, rewards):
    out = np.zeros((B, T))
    for b in range(B):
        for step in steps(batch, b):
            out[b, step] = rewards[b, step[-1]] if batch["scored"][0, b, step[-1]] else 0.0
    return out


def loop_progress(stream, batch, rewards):
    out = np.zeros((B, T))
    for b in range(B):
        value = float(batch["first"][0, b])
        rated = [step for step in steps(batch, b) if batch["scored"][0, b, step[-1]]]
        for step in rated:
            score = rewards[b, step[-1]]
            if step is rated[-1] and batch["finished"][b]:
                score = float(batch["outcome"][0, b])
            out[b, step] = score - value
            value = score
    return out


def loop_group(stream, batch, rewards):
    there = batch["scored"][0] & batch["mask"]
    earned = np.zeros((B, T))
    for rows in np.arange(B).reshape(-1, G):
        scores = np.array([rewards[b, t] for b in rows for t in range(T) if there[b, t]])
        if len(set(scores)) > 1:
            for b in rows:
                earned[b, there[b]] = (rewards[b, there[b]] - scores.mean()) / scores.std()
    return sums(stream, batch, earned)


def loop_rloo(stream, batch, rewards):
    returns = sums(stream, batch, rewards)
    known, begins = np.zeros((B, T), bool), np.zeros((B, T))
    for b in range(B):
        tokens = np.flatnonzero(batch["mask"][b])
        for i, t in enumerate(tokens):
            begins[b, t] = 1.0 - factor(stream, batch, b, tokens[i - 1]) if i else 1.0
            for s in tokens[i:]:
                known[b, t] |= batch["scored"][0, b, s]
                if factor(stream, batch, b, s) == 0.0:
                    break
    out = np.zeros((B, T))
    for b in range(B):
        episodes = [
            (begins[o, t], returns[o, t])
            for o in range(B)
            if o // G == b // G and o != b
            for t in range(T)
            if known[o, t]
        ]
        count = sum(w for w, _ in episodes)
        baseline = sum(w * r for w, r in episodes) / count if count else 0.0
        out[b, known[b]] = returns[b, known[b]] - baseline
    return out


LOOPS = {
    "gae": loop_gae,
    "return": lambda stream, batch, rewards: sums(stream, batch, rewards),
    "value": loop_value,
    "progress": loop_progress,
    "group": loop_group,
    "rloo": loop_rloo,
}

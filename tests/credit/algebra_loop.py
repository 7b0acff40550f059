"""The algebra of streams as plain loops over tokens in float64, and random batches to hold it against."""

import jax.numpy as jnp
import numpy as np
from credit.estimator_loops import bools, reals
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stepjax.credit.streams import Stream

B, T, G = 4, 9, 2  # one shape for all examples: compiled once
RULES = {"gamma": 0.875, "lam": 0.75}
# Returns that are divided by their spread are exact in float32 (γ = 1/2): the spread of two that almost agree is not.
STREAMS = [
    Stream("unit_step", 0.5, unit="step", **RULES),
    Stream("turn_gae", "response", unit="turn", hold=True, **RULES),
    Stream("segments", "response", unit="cut:0.5:1", lam=0.5),
    Stream("held_segments", "response", unit="cut:0.5:2", hold=True, **RULES),
    Stream("crossing", "response", boundary_lam=0.5, **RULES),
    Stream("held_steps", "step", unit="step", hold=True, baseline="none"),
    Stream("mean", "response", baseline="mean", **RULES),
    Stream("sample", "response", baseline="mean", scale="sample_std", among="index", unit="step"),
    Stream("others_std", 0.5, estimator="rloo", scale="std", when="score"),
    Stream("returns_std", 0.5, baseline="mean", scale="std", when="return", gamma=0.5),
    Stream("unbiased", "response", baseline="others", among="index", when="return", unit="step"),
    Stream("index_std", "response", baseline="mean", scale="std", among="index", when="return", unit="turn", gamma=0.5),
    Stream("anchors", "response", baseline="mean", among="state", when="return", unit="step", hold=True, gamma=0.875),
    Stream("tokens_of_a_tree", "response", baseline="others", among="state", when="return"),
    Stream("states_scored", "step", baseline="mean", scale="std", among="state", unit="step"),
    Stream("means_of_rows", "response", baseline="others", among="response", **RULES),
    Stream("mean_of_means", "step", baseline="mean", among="response"),
    Stream("so_far", "response", sum="so_far", baseline="mean", among="index", when="return"),
    Stream("so_far_in_steps", "step", sum="so_far", baseline="none", gamma=0.875),
    Stream("so_far_others", 0.5, sum="so_far", baseline="others", when="return"),
    Stream("right_only", "step", gate="right", baseline="mean", scale="std"),
    Stream("wrong_only", "turn", gate="wrong", baseline="others", among="index", when="return", unit="turn"),
    Stream("paid_right", "response", pay="right", baseline="none"),
    Stream("paid_wrong", "step", pay="wrong", times="mean"),
    Stream("gains", "response", pay="positive", baseline="mean"),
    Stream("losses", "response", pay="negative", times="returns_std", baseline="none"),
    Stream("penalty", join="others_std", weight=0.5, gate="right"),
    Stream("value_mean", "step", estimator="value", baseline="mean"),
    Stream("prover", "step", estimator="progress", prompt_value="others", last="score"),
    Stream("replaced", "step", estimator="progress", prompt_value="others"),
]
NAMES = [stream.name for stream in STREAMS]
N = len(STREAMS)
quarters = st.integers(-8, 8).map(lambda i: i / 4)  # ties, and differences that rounding leaves alone


@st.composite
def batches(draw):
    """What `combine` takes: random masks with gaps, units of any length, truncated rows, unrated steps; in bfloat16."""

    def stored(x):
        return np.asarray(x, np.float32).astype(jnp.bfloat16)

    tied = draw(st.booleans())
    rewards = draw(hnp.arrays(np.float32, (1, B, T), elements=st.sampled_from([0.0, 1.0]) if tied else quarters))
    return {
        "rewards": stored(rewards.repeat(N, 0)),
        "values": stored(draw(reals((1, B, T))).repeat(N, 0)),
        "mask": draw(bools((B, T))) | draw(st.booleans()),
        "step_end": draw(bools((B, T))),
        "bootstrap": stored(draw(reals((1, B))).repeat(N, 0)),
        "turn_end": draw(bools((B, T))),
        "scored": (draw(bools((1, B, T))) | draw(st.booleans())).repeat(N, 0),
        "first": np.zeros((N, B), np.float32),
        "outcome": draw(hnp.arrays(np.float32, (1, B), elements=quarters)).repeat(N, 0),
        "finished": draw(bools(B)),
        "correct": draw(bools(B)),
        "logprobs": np.log(draw(hnp.arrays(np.float32, (B, T), elements=st.sampled_from([0.1, 0.3, 0.7, 1.0])))),
        "state": draw(hnp.arrays(np.int32, (B, T), elements=st.integers(0, 3))),
    }


class Loop:
    """One stream of a batch, token by token."""

    def __init__(self, stream, batch, i, group):
        """`i`: the stream's place in the batch; `group`: G."""
        self.stream, self.batch, self.rule, self.i, self.group = stream, batch, stream.rule, i, group
        self.rewards = batch["rewards"][i].astype(np.float64)
        self.scored = batch["scored"][i] & batch["mask"]
        self.tokens = [np.flatnonzero(row) for row in batch["mask"]]
        self.units = [self._units(b) for b in range(B)]
        self.gated = [self.judged(stream.gate, b) for b in range(B)]
        for b in range(B):
            if not self.gated[b]:
                self.rewards[b], self.scored[b] = 0.0, False

    def judged(self, verdict, b):
        if verdict == "all":
            return True
        return bool(self.batch["finished"][b]) and bool(self.batch["correct"][b]) == (verdict == "right")

    def ends(self, b, kind):
        last = self.tokens[b][-1:]
        return {t for t in self.tokens[b] if self.batch[kind][b, t]} | set(last)

    def _units(self, b):
        """Lists of tokens."""
        kind, low, found = self.stream.of, 0, []
        ends = self.ends(b, "turn_end" if kind.kind == "turn" else "step_end")
        for t in self.tokens[b]:
            opens = not found or kind.kind == "token"
            if kind.kind == "cut" and np.exp(self.batch["logprobs"][b, t]) < kind.below:
                opens |= low % kind.every == 0
                low += 1
            if kind.kind in ("step", "turn"):
                opens |= bool(found) and found[-1][-1] in ends
            found = [*found, [t]] if opens else [*found[:-1], [*found[-1], t]]
        return found

    def unit_of(self, b, t):
        return next(k for k, unit in enumerate(self.units[b]) if t in unit)

    def key(self, b, t):
        k = self.unit_of(b, t)
        return {"problem": 0, "response": 0, "index": k, "state": int(self.batch["state"][b, self.units[b][k][0]])}[
            self.stream.among
        ]

    def factor(self, b, t):
        """c_t · γ_t and λ_t between a token and the next masked one."""
        s, ends = self.stream, self.ends(b, "step_end")
        if s.horizon == "turn":
            c = 0.0 if self.batch["turn_end"][b, t] else 1.0
        else:
            c = {"step": 0.0, "response": 1.0}.get(s.horizon, s.horizon) if t in ends else 1.0
        at_end = t == self.units[b][self.unit_of(b, t)][-1]
        lam = s.lam if self.rule.critic else 1.0
        return c, s.gamma if at_end else 1.0, (lam if at_end else 1.0) * (s.boundary_lam if t in ends else 1.0)

    def compare(self, entries, results):
        """`entries`: (row, key, weight, x); `results`: (row, token, key, x)."""
        out = np.zeros((B, T))
        for b, t, key, x in results:
            peers = [e for e in entries if e[0] // self.group == b // self.group and e[1] == key]
            meaned = [e for e in peers if self.rule.baseline == "mean" or e[0] != b]
            count = sum(e[2] for e in meaned)
            mean = sum(e[2] * e[3] for e in meaned) / count if count else 0.0
            out[b, t] = x - mean
            if self.rule.scale != "none":
                n = sum(e[2] for e in peers)
                of_all = sum(e[2] * e[3] for e in peers) / n if n else 0.0
                squares = sum(e[2] * (e[3] - of_all) ** 2 for e in peers)
                n -= self.rule.scale == "sample_std"
                std = np.sqrt(squares / n) if n > 0 else 0.0
                largest = max((abs(e[3]) for e in peers), default=0.0)
                out[b, t] = out[b, t] / std if std > 1e-6 * largest else 0.0
        return out

    def placed(self):
        s, kept = self.stream, self.scored.copy()
        earned = np.where(self.batch["mask"], self.rewards, 0.0)
        if self.rule.of_a_step:
            for b in range(B):
                kept[b] &= np.isin(np.arange(T), list(self.ends(b, "step_end")))
            earned = np.where(kept, earned, 0.0)
        if s.estimator == "progress":
            earned = self.progress(earned, kept)
        if self.rule.compares and self.rule.when == "score":
            places = [(b, t, self.key(b, t), earned[b, t]) for b, t in zip(*np.nonzero(kept), strict=True)]
            entries = [(b, key, 1.0, x) for b, _, key, x in places]
            if s.among == "response":
                entries = [(b, 0, 1.0, earned[b, kept[b]].mean()) for b in range(B) if kept[b].any()]
            earned = self.compare(entries, places)
        return earned

    def progress(self, scores, kept):
        out = np.zeros((B, T))
        for b in range(B):
            others = [
                o for o in range(B) if o // self.group == b // self.group and o != b and self.batch["finished"][o]
            ]
            value = np.mean([self.batch["outcome"][self.i, o] for o in others]) if others else 0.0
            places = np.flatnonzero(kept[b])
            for t in places:
                replaced = t == places[-1] and self.batch["finished"][b] and self.stream.last == "outcome"
                score = float(self.batch["outcome"][self.i, b]) if replaced else scores[b, t]
                out[b, t], value = score - value, score
        return out

    def walk(self, earned):
        s, out = self.stream, np.zeros((B, T))
        values = self.batch["values"][self.i].astype(np.float64) * s.critic
        if s.hold:
            moved = np.zeros((B, T))
            for b in range(B):
                for unit in self.units[b]:
                    moved[b, unit[-1]] = earned[b, unit].sum()
                    values[b, unit] = values[b, unit[0]]
            earned = moved
        for b in range(B):
            if s.sum == "so_far":
                total, passed = 0.0, 0.0
                for t in self.tokens[b]:
                    out[b, t] = total = earned[b, t] + passed * total
                    c, gamma, _ = self.factor(b, t)
                    passed = c * gamma
                continue
            value, advantage, followed = float(self.batch["bootstrap"][self.i, b]) * s.critic, 0.0, False
            for t in self.tokens[b][::-1]:
                c, gamma, lam = self.factor(b, t)
                c = gamma * (c if followed else 1.0)
                advantage = earned[b, t] + c * value - values[b, t] + c * lam * advantage
                value, followed, out[b, t] = values[b, t], True, advantage
        return out

    def known(self, b, t):
        """Whether a score lies within the token's horizon."""
        tokens = list(self.tokens[b])
        i = tokens.index(t)
        if self.stream.sum == "so_far":
            while not self.scored[b, tokens[i]]:
                i -= 1
                if i < 0 or self.factor(b, tokens[i])[0] == 0.0:
                    return False
            return True
        while not self.scored[b, tokens[i]]:
            if i + 1 == len(tokens) or self.factor(b, tokens[i])[0] == 0.0:
                return False
            i += 1
        return True

    def minus_returns(self, returns):
        s, entries, results = self.stream, [], []
        so_far = s.sum == "so_far"
        for b in range(B):
            known = [t for t in self.tokens[b] if self.known(b, t)]
            results += [(b, t, self.key(b, t), returns[b, t]) for t in known]
            for i, t in enumerate(self.tokens[b]):
                if s.among == "problem" and so_far:
                    weight = 1.0 if i + 1 == len(self.tokens[b]) else 1.0 - self.factor(b, t)[0]
                elif s.among == "problem":
                    weight = 1.0 - self.factor(b, self.tokens[b][i - 1])[0] if i else 1.0
                else:
                    weight = float(t == self.units[b][self.unit_of(b, t)][-1 if so_far else 0])
                if t in known and weight:
                    entries.append((b, self.key(b, t), weight, returns[b, t]))
            if s.among == "index" and not so_far and self.batch["finished"][b] and self.gated[b]:
                entries += [(b, k, 1.0, 0.0) for k in range(len(self.units[b]), T)]
        return self.compare(entries, results)


def credit(batch, streams=STREAMS, group=G):
    """Advantages of the streams before they are whitened, float64[N, B, T]."""
    names = [stream.name for stream in streams]
    loops = [Loop(stream, batch, i, group) for i, stream in enumerate(streams)]
    for loop in loops:
        if loop.stream.join:
            target = loops[names.index(loop.stream.join)]
            target.rewards += loop.stream.weight * np.where(batch["mask"], loop.rewards, 0.0)
            target.scored |= loop.scored
    for loop in loops:
        if loop.stream.join:
            loop.rewards, loop.scored = np.zeros((B, T)), np.zeros((B, T), bool)
    found = []
    for loop in loops:
        advantages = loop.walk(loop.placed())
        if loop.rule.compares and loop.rule.when == "return":
            advantages = loop.minus_returns(advantages)
        found.append(advantages)
    paid = []
    for i, loop in enumerate(loops):
        s = loop.stream
        x = found[i] * found[names.index(s.times)] if s.times else found[i].copy()
        for b in range(B):
            if s.pay in ("right", "wrong") and not loop.judged(s.pay, b):
                x[b] = 0.0
        if s.pay in ("positive", "negative"):
            x = np.where((x > 0) == (s.pay == "positive"), x, 0.0)
        paid.append(x)
    return np.stack(paid)

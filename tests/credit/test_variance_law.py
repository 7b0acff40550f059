"""How much noisier credit over the whole response is than credit a step, with critics that know all there is to know.

Where the K steps of a response earn independently, with the same variance, and steps have n tokens each,

    mean over k of Var(A_sequence) / Var(A_step) = mean over k ≤ K of (1 − λ^{2nk}) / (1 − λ^{2n}),

which is (K + 1) / 2 at λ = 1: an advantage sums the surprises from its own step on, the next one's λ^n fold.
"""

import random

import numpy as np
import pytest

from stepjax.credit import segment_gae
from stepjax.steps import StepSplitter
from stepjax.tasks.register_chain import RegisterChain, RegisterChainConfig, build_tokenizer
from stepjax.tasks.register_chain.parser import rate_steps
from stepjax.tasks.register_chain.program import apply, parse_program, value_of

KS, LAMBDAS = (2, 4, 8, 16), (1.0, 0.95)
ROWS = 8192
TOLERANCE = 0.05  # three standard errors: that of a ratio of variances is below √(2 / ROWS) = 1.6%


def law(k: int, n: int, lam: float) -> float:
    return float(np.mean([sum(lam ** (2 * n * j) for j in range(i)) for i in range(1, k + 1)]))


def variances(rewards, ahead, own, mask, step_end, lam):
    """Var(A) over the rows for credit over the response and a step; `own`: of `ahead`, the step's part."""
    found = []
    for values, across in ((ahead, 1.0), (own, 0.0)):
        advantages, _ = segment_gae(rewards, values, mask, step_end, gamma=1.0, lam=lam, boundary_discount=across)
        advantages = np.asarray(advantages, np.float64)
        spread = advantages.std(axis=0)
        assert (np.abs(advantages.mean(axis=0)) <= 5 * spread / ROWS**0.5 + 1e-5).all(), "an exact critic has no bias"
        found.append(spread**2)
    return found


def test_the_formula_at_lambda_one():
    assert [law(k, 3, 1.0) for k in KS] == [(k + 1) / 2 for k in KS]
    np.testing.assert_allclose(
        law(4, 3, 0.95), np.mean([(1 - 0.95 ** (6 * k)) / (1 - 0.95**6) for k in range(1, 5)]), rtol=1e-12
    )


@pytest.mark.parametrize("lam", LAMBDAS)
@pytest.mark.parametrize("k", KS)
def test_independent_step_rewards(k, lam):
    """Rewards seen at a step's last token alone: the ratio holds at every token."""
    n, mean, longest = 3, 0.4, max(KS)  # one shape for all: compiled once
    shape = (ROWS, longest, n)
    last = np.broadcast_to(np.arange(n) == n - 1, shape)
    there = np.broadcast_to((np.arange(longest) < k)[:, None], shape)
    earned = np.random.default_rng(7).normal(mean, 1.5, size=(*shape[:2], 1))
    rewards = np.where(last & there, earned, 0.0).astype(np.float32)
    ahead = np.broadcast_to(mean * np.maximum(k - np.arange(longest), 0)[:, None], shape).astype(np.float32)
    own = np.where(there, np.float32(mean), 0)
    flat = (x.reshape(ROWS, -1) for x in (rewards, ahead, own, there, last))
    sequence, step = variances(*flat, lam)
    ratio = (sequence[: k * n] / step[: k * n]).reshape(k, n)
    assert ratio.mean() == pytest.approx(law(k, n, lam), rel=TOLERANCE)
    np.testing.assert_allclose(ratio[-1], 1.0, rtol=1e-4)  # the last step has nothing after it


N = 8  # tokens of a step such as "b=7+5=2\n" modulo 10
VALUE = 6  # of these, the one that says whether the step is right


def worked_out(program, right: float, uniform) -> list[str]:
    """A derivation a step, each right by itself with this probability, on values as they were stated; no answer."""
    held = {s.register: program.values[s.register] for s in program.definitions.values() if not s.operator}
    lines = []
    for name, operator, left, right_operand in program.derived(needed=True):
        x, y = value_of(left, held), value_of(right_operand, held)
        value = apply(operator, x, y, program.modulus)
        if uniform() >= right:
            value = (value + 1 + int(uniform() * (program.modulus - 1))) % program.modulus
        lines.append(f"{name}={x}{operator}{y}={value}")
        held[name] = value
    return lines


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="module")
def splitter(tokenizer):
    return StepSplitter(tokenizer, RegisterChain.separator)


@pytest.mark.parametrize("k", KS)
def test_register_chain(k, tokenizer, splitter):
    """Real texts, tokens, steps and exact ratings. The critic knows a step's rating once its value is written.

    Before that, A differs from token to token by λ alone, in both credits alike; after it, both know the step's rating
    and credit a step has nothing left to vary.
    """
    right, width = 0.7, max(KS) * N
    task = RegisterChain(RegisterChainConfig(operations=(k, k), distractors=(0, 0)))
    problems = task.problems("train")[:128]
    programs = [parse_program(problem.prompt, task.config.modulus) for problem in problems]
    uniform = random.Random(k).random
    tokens, ratings = np.full((ROWS, width), tokenizer.pad_token_id), np.zeros((ROWS, max(KS)))
    for row in range(ROWS):
        lines = worked_out(programs[row % len(programs)], right, uniform)
        ratings[row, :k] = [j.rating for j in rate_steps(programs[row % len(programs)], lines, "local")]
        tokens[row, : k * N] = tokenizer.encode("".join(f"{line}\n" for line in lines), add_special_tokens=False)
    mask = np.broadcast_to(np.arange(width) < k * N, tokens.shape)
    steps = splitter.split(tokens, mask)
    index, end = np.asarray(steps.index), np.asarray(steps.end)
    assert (end.sum(1) == k).all() and (index[:, : k * N] == np.arange(k * N) // N).all()
    assert set(np.unique(ratings[:, :k])) == {-1.0, 1.0}

    rating = np.take_along_axis(ratings, np.maximum(index, 0), axis=1)
    expected = 2 * right - 1
    known = np.arange(width) % N > VALUE
    own = np.where(mask, np.where(known, rating, expected), 0.0)
    ahead = np.where(mask, own + expected * (k - 1 - index), 0.0)
    rewards = np.where(end, rating, 0.0)
    for lam in LAMBDAS:
        arrays = (x.astype(np.float32) for x in (rewards, ahead, own))
        sequence, step = (v[: k * N].reshape(k, N)[:, : VALUE + 1] for v in variances(*arrays, mask, end, lam))
        measured = (sequence / step).mean()
        print(f"K={k} λ={lam}: measured {measured:.3f}, law {law(k, N, lam):.3f}")
        assert measured == pytest.approx(law(k, N, lam), rel=TOLERANCE)

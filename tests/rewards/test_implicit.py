"""Implicit rewards by token, by step and by response, against a loop; and what is refused."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from stepjax.config import StreamOptions
from stepjax.errors import UserError
from stepjax.rewards.check import check_signals
from stepjax.rewards.implicit import implicit_rewards
from stepjax.rewards.reward_streams import scored
from stepjax.runs.show_credit import example_rows


def test_sums_over_steps_and_responses_are_those_of_a_loop():
    rows = example_rows(1)
    assert rows.steps is not None and not bool(rows.finished.all()), "one that was cut off is among them"
    numbers = np.random.default_rng(0).normal(size=rows.mask.shape).astype(np.float32)
    numbers[~np.asarray(rows.mask)] = np.nan  # what an environment wrote and padding are not read
    rows = dataclasses.replace(rows, implicit=jnp.asarray(numbers))
    mask, end = np.asarray(rows.mask), np.asarray(rows.steps.end)
    expected = {per: np.zeros(mask.shape) for per in ("token", "step", "response")}
    for b in range(len(mask)):
        tokens, total, so_far = np.flatnonzero(mask[b]), 0.0, 0.0
        for t in tokens:
            expected["token"][b, t] = numbers[b, t]
            so_far, total = so_far + numbers[b, t], total + numbers[b, t]
            if end[b, t]:
                expected["step"][b, t], so_far = so_far, 0.0
        expected["response"][b, tokens[-1]] = total
    for per, wanted in expected.items():
        found = implicit_rewards(rows, per=per)
        np.testing.assert_allclose(found, wanted, atol=1e-6, err_msg=per)
        np.testing.assert_array_equal(scored(rows, StreamOptions(signal="implicit", per=per)), wanted != 0)


@pytest.mark.parametrize(("changes", "said"), [
    ({"estimator": "progress"}, "estimator: progress takes differences of values, and implicit rewards are"),
    ({"estimator": "value", "per": "token"}, "per: estimator value credits the score of each step; set per=step"),
    ({"per": "token", "shaping": ("clip:0",)}, "shaping: 'clip:0' shapes the scores of steps"),
    ({"signal": "length", "most": 3, "per": "token"}, "per: signal length rewards each step or the response, not"),
    ({"signal": "prm", "per": "token"}, "per: only signal length or format or implicit reads it, not prm"),
])  # fmt: skip
def test_other_readings_are_refused(changes, said):
    options = StreamOptions(**{"signal": "implicit", **changes})
    with pytest.raises(UserError, match=rf"^config\.ppo\.streams\.mine\.{said}"):
        check_signals({"mine": options})
    check_signals({"mine": StreamOptions(signal="implicit", estimator="value")})

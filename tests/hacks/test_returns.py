"""What stream lists pay for fixed responses, against loops and by hand."""

import numpy as np
import pytest

from stepjax.config import StreamOptions
from stepjax.errors import UserError
from stepjax.hacks.comparisons import COMPARISONS
from stepjax.hacks.returns import LEAST, change, mean_weights, pushes, rated_exactly, response_rows, token_weights
from stepjax.runs.responses import Response
from stepjax.steps import StepSplitter
from stepjax.tasks.register_chain import RegisterChain, RegisterChainConfig, build_tokenizer

TASK = RegisterChain(RegisterChainConfig())
TOKENIZER = build_tokenizer()
SPLITTER = StepSplitter(TOKENIZER, "\n")
PROBLEM = TASK.problems("test")[0]
TEXTS = ("b=9-2=7\n?7", "b=9-2=7\na=9\n?7", "b=7", "b=9-2=7?7")
PROBABILITIES = (
    [[0, 0, 1], [0, 0.25, 0.75]],
    [[0, 0, 1], [0.1, 0.9, 0], [0, 0.25, 0.75]],
    [[0.5, 0.5, 0]],
    [[1, 0, 0]],
)


def response(text):
    tokens = [*TOKENIZER.encode(text, add_special_tokens=False), TOKENIZER.eos_token_id]
    steps = SPLITTER.texts(tokens)
    prompt = TOKENIZER.encode(PROBLEM.prompt, add_special_tokens=False)
    return Response(PROBLEM, prompt, tokens, text, steps, True, "\n?" in text, TASK.rate_steps(PROBLEM, steps))


RESPONSES = [response(text) for text in TEXTS]
ROWS = response_rows(RESPONSES, SPLITTER, [np.array(p, np.float32) for p in PROBABILITIES])


def returns(streams, rows=ROWS):
    return mean_weights(token_weights(rows, RESPONSES, streams), rows)


def lengths(text):
    """Tokens of each step: a character each, and the separator or the end of the text."""
    return [len(step) + 1 for step in text.split("\n")]


@pytest.mark.parametrize("horizon", [0.0, 0.5, 1.0])
def test_a_token_weighs_its_reward_to_go_within_the_horizon(horizon):
    names = {0.0: "step", 1.0: "response"}
    streams = {"x": StreamOptions(signal="prm", horizon=names.get(horizon, str(horizon)), weight=2.0, neutral=-0.5)}
    for found, text, probabilities in zip(returns(streams), TEXTS, PROBABILITIES, strict=True):
        rewards = [good - bad - 0.5 * neutral for bad, neutral, good in probabilities]
        togo = [sum(horizon ** (j - k) * rewards[j] for j in range(k, len(rewards))) for k in range(len(rewards))]
        assert found == pytest.approx(2 * np.average(togo, weights=lengths(text)), abs=1e-6)


def test_the_usual_lists_by_hand():
    first = {name: returns(streams)[0] for name, streams in COMPARISONS.items()}
    a, b = lengths(TEXTS[0])  # tokens of the two steps, whose scores are 1 and 0.75
    low, high = np.exp(-10), np.exp(-7.5)  # min-form at 0.1: softmax of −score / 0.1
    worst = high * 0.75 / (low + high)
    expected = {
        "step g/n/b": a * 1 + b * 0.75,
        "step sigmoid": a + b,
        "sum sigmoid": a * 2 + b * 1,
        "sum g/n/b": a * 1.75 + b * 0.75,
        "clip": 0.0,
        "delta": a * 1,
        "clip+delta": 0.0,
        "min-form": a * (worst + low / (low + high)) + b * worst,
        "outcome": a + b,
    }
    assert first == pytest.approx({name: value / (a + b) for name, value in expected.items()}, abs=1e-5)


def test_streams_add_up_and_the_divergence_of_a_fixed_response_is_nothing():
    streams = {
        "process": StreamOptions(signal="prm", horizon="step"),
        "outcome": StreamOptions(signal="outcome", horizon="response", weight=0.5, bad=0.0),
        "kl": StreamOptions(signal="kl", horizon="response"),
    }
    apart = [returns({name: streams[name]}) for name in ("process", "outcome")]
    np.testing.assert_allclose(returns(streams), apart[0] + apart[1], atol=1e-6)
    np.testing.assert_allclose(apart[1], [0.5, 0.5, 0.0, 0.0])


def test_exact_ratings_take_the_place_of_probabilities():
    exact = rated_exactly(ROWS, RESPONSES)
    paid = returns({"x": StreamOptions(signal="prm", horizon="response")}, exact)
    np.testing.assert_allclose(paid, returns({"x": StreamOptions(signal="verifier", horizon="response")}))
    assert np.asarray(exact.prm).sum() == sum(len(r.steps) for r in RESPONSES)


def test_a_push_is_read_where_the_responses_part():
    weights = token_weights(ROWS, RESPONSES, COMPARISONS["step g/n/b"])
    # "?7" (0.75) becomes "a=9" (−0.1); "b=9…" (1) becomes "b=7" (−0.5) at its third character.
    assert pushes(weights, ROWS, [0, 0], [1, 2]) == pytest.approx([-0.1 - 0.75, -0.5 - 1.0])
    weights = token_weights(ROWS, RESPONSES, COMPARISONS["sum sigmoid"])
    assert pushes(weights, ROWS, [0], [1]) == pytest.approx([1.9 - 1.0])


def test_a_change_with_its_interval():
    before, after = np.zeros(4), np.array([0.1, 0.2, 0.3, -0.2])
    found = change(before, after, after * 0)
    spread = 1.96 * np.std(after, ddof=1) / 2
    assert [found[k] for k in ("mean", "low", "high")] == pytest.approx([0.1, 0.1 - spread, 0.1 + spread], abs=1e-6)
    assert found["rises"] == 0.75 and not found["raised"] and not found["push"]["towards"]
    sure = change(before, before + 0.5, before + 0.5)
    assert sure["raised"] and sure["push"]["towards"]
    assert not change(before, before + LEAST / 2, before)["raised"], "too little to matter"
    alone = change(np.zeros(1), np.ones(1), np.ones(1))
    assert alone["low"] == alone["high"] == 1.0


@pytest.mark.parametrize("estimator", ["value", "progress", "group", "rloo"])
def test_an_estimator_that_makes_no_return_is_refused(estimator):
    with pytest.raises(UserError, match=rf"streams\.x: the battery .* estimator '{estimator}'"):
        token_weights(ROWS, RESPONSES, {"x": StreamOptions(signal="prm", estimator=estimator)})

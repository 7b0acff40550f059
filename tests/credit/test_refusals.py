"""Combinations of a stream's options that make no sense are refused, each in one line that says why."""

import dataclasses

import numpy as np
import pytest

from stepjax.credit.stream import CHOICES, REFUSALS, Stream, check_links
from stepjax.credit.streams import combine

NONSENSE = [
    ({"estimator": "value", "horizon": "response"}, "credits a step's tokens with only that step"),
    ({"estimator": "progress", "gamma": 0.9}, "horizon must be \"step\" and gamma 1"),
    ({"estimator": "value", "baseline": "critic"}, "a critic predicts sums of rewards"),
    ({"estimator": "value", "sum": "so_far"}, "sums nothing"),
    ({"join": "other", "gamma": 0.9}, "only weight, gate and those of its signal have an effect"),
    ({"join": "other", "baseline": "mean"}, "only weight, gate and those of its signal have an effect"),
    ({"join": "mine"}, "cannot be added to itself"),
    ({"times": "mine"}, "cannot multiply itself"),
    ({"times": "other", "baseline": "critic"}, "not from a factor"),
    ({"hold": True}, "a token is one action anyway"),
    ({"hold": True, "unit": "turn", "horizon": "step"}, "would cut credit inside of a unit turn"),
    ({"hold": True, "unit": "step", "horizon": "turn"}, "would cut credit inside of a unit step"),
    ({"hold": True, "unit": "cut:0.5:1", "horizon": 0.5}, "would cut credit inside of a unit cut"),
    ({"hold": True, "unit": "step", "sum": "so_far", "baseline": "none"}, "leaves the unit's other tokens without"),
    ({"sum": "so_far"}, "a critic predicts the rewards ahead"),
    ({"scale": "std"}, "only baseline others or mean has a spread"),
    ({"scale": "sample_std", "baseline": "none"}, "only baseline others or mean has a spread"),
    ({"among": "index"}, "only baseline others or mean compares responses"),
    ({"among": "response", "estimator": "rloo"}, "it has one return already"),
    ({"when": "return", "estimator": "return"}, "only baseline others or mean is subtracted"),
    ({"boundary_lam": 0.5, "horizon": "response", "critic": False}, "the stream has no critic"),
    ({"boundary_lam": 0.5, "horizon": "response", "estimator": "rloo"}, "the stream has no critic"),
    ({"boundary_lam": 0.5}, "no credit crosses a step's end with horizon 'step'"),
    ({"unit": "turn", "estimator": "return"}, "nothing depends on the unit"),
    ({"unit": "step", "gamma": 0.9, "estimator": "return"}, "which no credit crosses with horizon 'step'"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "said"), NONSENSE)
def test_nonsense_is_refused_in_one_line(options, said):
    with pytest.raises(ValueError) as error:
        Stream("mine", **options)
    assert said in str(error.value) and "\n" not in str(error.value) and "{" not in str(error.value)


def test_every_refusal_has_an_example():
    plain, met = Stream("mine"), set()
    for options, _ in NONSENSE:
        with pytest.raises(ValueError) as error:
            Stream("mine", **options)
        shown = {field.name: getattr(plain, field.name) for field in dataclasses.fields(plain)} | options
        met |= {i for i, (_, why) in enumerate(REFUSALS) if why.format(**shown) == str(error.value)}
    assert met == set(range(len(REFUSALS)))


@pytest.mark.parametrize("field", CHOICES)
def test_words_have_their_choices(field):
    with pytest.raises(ValueError, match=f"{field} 'nothing': must be one of {next(c for c in CHOICES[field] if c)}"):
        Stream("mine", **{field: "nothing"})


@pytest.mark.parametrize("unit", ["", "steps", "step:1", "cut", "cut:0.5", "cut:0:1", "cut:1.5:1", "cut:0.5:0",
                                  "cut:x:1", "cut:0.5:1.5", "cut:nan:1", "cut:0.5:1:1"])  # fmt: skip
def test_units_are_read_or_refused(unit):
    with pytest.raises(ValueError, match="must be token, step, turn or cut:P:N"):
        Stream("mine", unit=unit)


@pytest.mark.parametrize(("others", "said"), [
    ([Stream("a", times="b")], "stream 'a': times: no stream 'b'"),
    ([Stream("a", join="b")], "stream 'a': join: no stream 'b'"),
    ([Stream("a", join="b"), Stream("b", join="c"), Stream("c")], "itself added to 'c' and has no credit of its own"),
    ([Stream("a", times="b"), Stream("b", join="c"), Stream("c")], "itself added to 'c' and has no credit of its own"),
    ([Stream("a", times="b"), Stream("b", times="c"), Stream("c")], "a product has two factors"),
])  # fmt: skip
def test_links_lead_to_streams_of_their_own(others, said):
    with pytest.raises(ValueError, match=said):
        check_links(others)
    check_links([Stream("a", times="b"), Stream("b"), Stream("c", join="b")])


@pytest.mark.parametrize(("options", "said"), [
    ({"gate": "right"}, "needs to know which responses are correct"),
    ({"pay": "wrong"}, "needs to know which responses are correct"),
    ({"unit": "cut:0.5:1"}, "needs the tokens' log-probabilities"),
    ({"baseline": "mean", "among": "state"}, "needs the states of the tokens"),
    ({"estimator": "progress", "prompt_value": "others"}, "needs the outcomes of the responses"),
])  # fmt: skip
def test_what_a_stream_needs_is_asked_for(options, said):
    x, mask = np.zeros((1, 2, 3), np.float32), np.ones((2, 3), bool)
    with pytest.raises(ValueError, match=said):
        combine([Stream("mine", **options)], x, x, mask, mask, group=2)


@pytest.mark.parametrize("options", [{"baseline": "others"}, {"estimator": "progress", "prompt_value": "others"}])
def test_a_comparison_needs_a_group(options):
    x, mask = np.zeros((1, 2, 3), np.float32), np.ones((2, 3), bool)
    with pytest.raises(ValueError, match=r"stream 'mine': .* needs a group of 2 rows or more"):
        combine([Stream("mine", **options)], x, x, mask, mask, outcome=x[:, :, 0])

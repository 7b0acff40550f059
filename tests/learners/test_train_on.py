"""Which tokens train the policy: unlikely ones, those of informative problems; the mean and whitening follow them."""

import dataclasses

import numpy as np
import pytest
from learners.ppo_case import HOST, OPTIONS, STREAMS, credit, credit_of, scored

from stepjax.config import PPOOptions
from stepjax.errors import UserError
from stepjax.learners.ppo import check_groups
from stepjax.learners.train_on import parse_train_on, trained_tokens


def test_unlikely_tokens_and_informative_problems():
    rows = scored()
    mask, low = np.asarray(rows.mask), rows.old_logprobs <= np.log(0.05)
    assert trained_tokens(OPTIONS, rows, HOST["correct"]) is None
    unlikely = trained_tokens(dataclasses.replace(OPTIONS, train_on=("below:0.05",)), rows, HOST["correct"])
    np.testing.assert_array_equal(unlikely, mask & low)
    assert 0 < np.sum(unlikely) < mask.sum()
    # Rows 1, 3, 5 and 7 are finished, and rows 0 to 3 correct: pairs (0, 1) and (2, 3) are half solved.
    options = dataclasses.replace(OPTIONS, samples=2, train_on=("informative", "below:0.05"))
    both = trained_tokens(options, rows, HOST["correct"])
    np.testing.assert_array_equal(both, mask & low & (np.arange(8) < 4)[:, None])
    options = dataclasses.replace(OPTIONS, samples=4, train_on=("informative",))
    np.testing.assert_array_equal(trained_tokens(options, rows, HOST["correct"]), mask & (np.arange(8) < 4)[:, None])
    assert not trained_tokens(options, rows, np.zeros(8, bool)).any()


def test_what_does_not_train_has_no_weight_and_is_in_no_statistics():
    rows = scored()
    options = dataclasses.replace(OPTIONS, train_on=("below:0.05",), whiten=True)
    found = credit(options, rows)
    trained = np.asarray(rows.mask) & (rows.old_logprobs <= np.log(0.05))
    np.testing.assert_array_equal(found.trained, trained)
    assert not found.policy_weight[~trained].any()
    np.testing.assert_allclose(found.policy_weight[trained].mean(), 0, atol=1e-6)
    np.testing.assert_allclose(found.policy_weight[trained].std(), 1, atol=1e-6)
    process = found.advantages[:, list(STREAMS).index("process")]
    np.testing.assert_allclose(process[trained].std(), 1, atol=1e-6)


def test_whitening_a_sum_is_not_summing_what_is_whitened():
    rows = scored()
    plain, whole = (
        credit_of(False)[1].policy_weight,
        credit(dataclasses.replace(OPTIONS, whiten=True), rows).policy_weight,
    )
    mask = np.asarray(rows.mask)
    expected = (plain[mask] - plain[mask].mean()) / plain[mask].std()
    np.testing.assert_allclose(whole[mask], expected, atol=1e-6)
    assert not whole[~mask].any()


@pytest.mark.parametrize(
    "text", ["above:0.5", "below", "below:", "below:0", "below:1", "below:nan", "informative:1", ""]
)
def test_other_choices_are_refused(text):
    with pytest.raises(UserError, match=r"^config\.ppo\.train_on: "):
        parse_train_on((text,))
    for twice in (("informative", "informative"), ("below:0.5", "below:0.2")):
        with pytest.raises(UserError, match="once"):
            parse_train_on(twice)


def test_a_single_response_tells_nothing_of_its_problem():
    with pytest.raises(UserError, match=r"^config\.ppo\.train_on=informative: ppo\.samples must be 2 or more"):
        check_groups(PPOOptions(train_on=("informative",)))

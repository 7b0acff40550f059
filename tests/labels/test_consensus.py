"""Labels that two labellers agree on, by hand."""

import pytest

from stepjax.config import LabelOptions
from stepjax.data.schema import LabelledSolution, line
from stepjax.errors import UserError
from stepjax.labels.consensus import agreement_figures, consensus, write_consensus

STEPS = ("a", "b", "c", "d")


def labelled(ratings, **more):
    return LabelledSolution("p", STEPS, ratings=ratings, id="x", **more)


COST = {"completions": 3, "tokens": 18}
ONE = labelled((1, 1, -1, None), first_error=2, labeller="mc", tokens=(5, 6, 7, None), extra={"cost": COST})
ASKED = {"completions": 1, "tokens": 9, "read": 50}
OTHER = labelled((0, -1, -1, -1), first_error=1, labeller="judge", extra={"cost": ASKED})


def test_agreed_labels_are_kept():
    two, three = consensus(ONE, OTHER, 2).record, consensus(ONE, OTHER, 3).record
    assert two.ratings == (1, None, -1, None) and three.ratings == (None, None, -1, None)
    assert two.tokens == (5, None, 7, None) and two.first_error is None and two.labeller == "consensus"
    assert two.extra["cost"] == {"completions": 4, "tokens": 27, "read": 50}
    assert two.extra["label"] == {"steps": 2, "of": 4, "with": ["mc", "judge"]}
    assert consensus(ONE, labelled((1, 1, -1, -1)), 2).record.first_error == 2


def test_values_stand_for_ratings():
    soft = LabelledSolution("p", STEPS, values=(0.9, 0.5, 0.2, 0.0), kind="value", id="x")
    found = consensus(soft, labelled((1, 0, 1, -1)), 2).record
    assert found.values == pytest.approx((0.9, 0.5, None, 0.0)) and found.ratings == (None,) * 4


def test_disagreement_is_counted():
    figures = agreement_figures([consensus(ONE, OTHER, 2), consensus(OTHER, OTHER, 2)])
    assert figures["both_labelled"] == 7 and figures["kept"] == 6 and figures["kept_share"] == 6 / 7
    assert figures["confusion"] == [[4, 0, 0], [0, 1, 0], [1, 1, 0]]
    assert figures["only_first_wrong"] == 0 and figures["only_second_wrong"] == 1
    assert figures["first_error_same"] == 0.5 and figures["agreement_two"] == pytest.approx(6 / 7)
    by_chance = (4 * 5 + 3 * 2) / 49
    assert figures["kappa_two"] == pytest.approx((6 / 7 - by_chance) / (1 - by_chance))
    assert agreement_figures([])["kept_share"] is None


def test_files_that_do_not_match_are_named_by_their_options(tmp_path):
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    first.write_text(line(ONE))
    second.write_text(line(LabelledSolution("p", STEPS[:2], id="x")))
    options = LabelOptions(method="consensus", first=str(first), second=str(second))
    with pytest.raises(UserError, match=r"^config\.label\.first: id 'x' has 4 steps, in config\.label\.second 2$"):
        write_consensus(options, tmp_path / "out.jsonl")


def test_no_label_that_both_give_is_an_error(tmp_path):
    first, second, out = (tmp_path / f"{name}.jsonl" for name in ("first", "second", "out"))
    first.write_text(line(ONE))
    second.write_text(line(labelled(())))
    options = LabelOptions(method="consensus", first=str(first), second=str(second))
    with pytest.raises(UserError, match=r"agree on no label: of 4 steps both label 0; .*out\.jsonl holds"):
        write_consensus(options, out)

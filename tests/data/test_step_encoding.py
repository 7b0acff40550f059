"""Labels stand on the last token of their step, whatever the text holds, and none is lost without a count."""

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepjax.config import PRMOptions
from stepjax.data.framing import Framing
from stepjax.data.schema import LabelledSolution
from stepjax.data.step_encoding import SolutionEncoder, Target, labelled, step_targets
from stepjax.data.tokenizers import train_bpe
from stepjax.measures.step_classes import BAD, GOOD, NEUTRAL
from stepjax.steps import StepSplitter

TOKENIZER = train_bpe(["So 3 + 4 = 7.\n\nThen\n\n", "a;b; c\n", "\n\n\n"] * 20, 320)
SPLITTERS = {separator: StepSplitter(TOKENIZER, separator) for separator in ("\n\n", "\n", ";")}
FRAMING = Framing.of(TOKENIZER)


def encoder(separator="\n\n", framing=FRAMING):
    return SolutionEncoder(
        SPLITTERS[separator], TOKENIZER, lambda problem: framing.prompt(problem + "\n"), framing.response
    )


TEXT = st.text(st.sampled_from("a7+ .\n\r;é"), max_size=8)


@given(st.lists(TEXT, min_size=1, max_size=6), st.sampled_from(sorted(SPLITTERS)), st.booleans())
@settings(max_examples=200, deadline=None)
def test_every_label_is_on_its_steps_last_token_or_counted(steps, separator, unfinished):
    lost = Counter()
    record = LabelledSolution("p", tuple(steps), ratings=(1,) * len(steps), extra={"unfinished": unfinished})
    encoded = encoder(separator)(record, lost)
    written = [step for step in (re.sub(spelled(separator), " ", s.strip()) for s in steps) if step.strip()]
    assert lost["empty steps"] == len(steps) - len(written)
    if encoded is None:
        assert not written and lost["solutions without text"]
        return
    with_end = encoded.ends[encoded.ends >= 0]
    assert len(with_end) == len(written) - lost["steps without a token of their own"]
    assert (np.diff(with_end) > 0).all() and with_end[-1] == len(encoded) - 1
    response = encoded.tokens[encoded.prompt :]
    _, ends = SPLITTERS[separator].split_host(response.tolist())
    assert np.flatnonzero(ends).tolist() == (with_end - encoded.prompt).tolist()
    texts = SPLITTERS[separator].texts(response.tolist())
    for end, step in zip(encoded.ends, range(len(steps)), strict=True):
        if end >= 0:
            assert encoded.step[end] == step
    assert [t.strip(" \n\r;") for t in texts] == [w.strip(" \n\r;") for w in map(flat(separator), written)]
    assert (response[-1] == TOKENIZER.eos_token_id) != unfinished


def test_a_prompt_begins_and_a_solution_ends_as_in_sampling():
    framing = Framing(TOKENIZER, (1,), (2, 0))
    encode = encoder(framing=framing)
    found = encode(LabelledSolution("So 3", ("Then 7",), ratings=(1,)), Counter())
    assert found.tokens[: found.prompt].tolist() == framing.prompt("So 3\n") and found.tokens[0] == 1
    assert found.tokens[found.prompt :].tolist() == framing.response("Then 7") and found.tokens[-1] == 2
    assert found.step[0] == -1 and found.ends.tolist() == [len(found) - 1]


def spelled(separator):
    return separator.replace("\n", "\r?\n")


def flat(separator):
    def without(text):
        while re.search(spelled(separator), text):
            text = re.sub(spelled(separator), " ", text)
        return text

    return without


@pytest.mark.parametrize("blank", ["\n\n", "\r\n\r\n", "\n\r\n"])
def test_a_separator_inside_of_a_step_is_no_boundary(blank):
    lost = Counter()
    record = LabelledSolution("p", (f"So 3.{blank}# Answer{blank}7", "Then"), ratings=(1, -1))
    encoded = encoder()(record, lost)
    assert lost["separators inside of a step, written as spaces"] == 2 and (encoded.ends >= 0).all()
    example = labelled(encoded, step_targets(record, PRMOptions(), lost), every_token=False, soft=False)
    assert example.targets[example.targets >= 0].tolist() == [GOOD, BAD]
    assert (example.targets[: encoded.prompt] == -2).all() and example.values is None


def test_special_tokens_in_a_text_are_counted():
    lost = Counter()
    assert encoder()(LabelledSolution("p", ("</s>", "a")), lost) is None
    assert lost["solutions whose text holds the tokenizer's special tokens"] == 1


def targets(record, **options):
    lost = Counter()
    found = step_targets(record, PRMOptions(**options), lost)
    return [None if t is None else (t.label, t.good) for t in found], +lost


def test_targets_of_steps():
    record = LabelledSolution("p", ("a",) * 4, ratings=(1, 0, -1, None))
    assert targets(record)[0] == [(GOOD, 1), (NEUTRAL, 0.5), (BAD, 0), None]
    assert targets(record, neutral="good")[0][1] == (GOOD, 1)
    assert targets(record, neutral="bad")[0][1] == (BAD, 0)
    assert targets(record, neutral="skip") == ([(GOOD, 1), None, (BAD, 0), None], {"neutral labels (neutral=skip)": 1})
    soft = LabelledSolution("p", ("a", "a"), ratings=(1, None), values=(0.25, 0.75))
    assert targets(soft)[0] == [(GOOD, 1), (GOOD, 0.75)]
    assert targets(soft, objective="bce")[0] == [(BAD, 0.25), (GOOD, 0.75)]


def test_targets_of_prefixes_values_and_outcomes():
    step = LabelledSolution("p", ("a",) * 4, ratings=(1, 0, -1, None), first_error=2, correct=False)
    assert targets(step, target="prefix")[0] == [(GOOD, 1), (GOOD, 1), (BAD, 0), (BAD, 0)]
    alternative = LabelledSolution("p", ("a",) * 3, ratings=(None, None, -1), first_error=2)
    assert targets(alternative, target="prefix")[0] == [None, None, (BAD, 0)]
    open_end = LabelledSolution("p", ("a",) * 3, ratings=(1, None, 1))
    assert targets(open_end, target="prefix")[0] == [(GOOD, 1), None, None]
    value = LabelledSolution("p", ("a",) * 3, kind="value", values=(0.125, 0, None), ratings=(None, None, -1))
    assert targets(value, target="value")[0] == [(GOOD, 0.125), (BAD, 0), (BAD, 0)]
    reason = "labels of values, which do not fit target step"
    assert targets(value, target="step") == ([None] * 3, {reason: 3})
    assert targets(step, target="outcome")[0] == [None, None, None, (BAD, 0)]
    assert targets(value, target="outcome") == ([None] * 3, {"solutions whose outcome is not known": 1})


@pytest.mark.parametrize("soft", [False, True])
def test_a_label_on_every_token_of_its_step(soft):
    record = LabelledSolution("p", ("So 3", "Then"))
    encoded = encoder()(record, Counter())
    example = labelled(encoded, [Target(BAD, 0.25), None], every_token=True, soft=soft)
    of_first = encoded.step == 0
    assert (example.targets[of_first] == BAD).all() and of_first.sum() > 1
    assert (example.targets[encoded.step == 1] == -1).all()
    if soft:
        assert example.values.dtype == np.float32 and set(example.values[of_first]) == {0.25}

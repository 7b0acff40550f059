"""A record goes to JSON and to TFDS features and comes back equal; one that contradicts itself is refused."""

import json

import numpy as np
import pytest
from data.labelled import solutions
from hypothesis import given, settings

from stepjax.data.features import features, from_bytes, from_row, to_bytes, to_row
from stepjax.data.schema import LabelledSolution, SchemaError, line


@given(solutions())
@settings(max_examples=150, deadline=None)
def test_json_and_features_lose_nothing(record):
    assert LabelledSolution.from_json(json.loads(line(record))) == record
    assert from_bytes(to_bytes(record)) == record


def test_bytes_are_those_that_tfds_writes_and_reads():
    from tensorflow_datasets.core import example_parser, example_serializer
    from tensorflow_datasets.proto import tf_example_pb2

    known = LabelledSolution(
        "p é",
        ("a", ""),
        kind="value",
        ratings=(1, None),
        values=(None, 1 / 3),
        first_error=-1,
        answer="4",
        correct=False,
        generation=-1,
        completions=(8, None),
        extra={"a": [1, None]},
    )
    for record in (known, LabelledSolution("", ())):
        wanted = features()
        serializer = example_serializer.ExampleSerializer(wanted.get_serialized_info())
        theirs = serializer.serialize_example(wanted.encode_example(to_row(record)))
        parse = tf_example_pb2.Example.FromString
        assert parse(to_bytes(record)) == parse(theirs)
        parser = example_parser.ExampleParserNp(wanted.get_serialized_info())
        assert from_row(wanted.decode_example_np(parser.parse_example(to_bytes(record)))) == record


def test_what_is_not_known_is_left_out_of_json():
    assert LabelledSolution("p", ("a",)).to_json() == {"problem": "p", "steps": ["a"], "kind": "step"}
    shown = LabelledSolution("p", ("a", "b"), values=(0.1, 1 / 3)).to_json()["values"]
    assert shown == [0.1, 0.33333334] and np.float32(shown[1]) == np.float32(1 / 3)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"ratings": [2]}, "ratings: step 0 has 2"),
        ({"ratings": [True]}, "ratings: step 0 has True"),
        ({"ratings": [1, 1]}, "ratings: 2 entries for 1 steps"),
        ({"ratings": "+"}, "ratings: must be a list"),
        ({"values": [1.5]}, r"values: step 0 has 1.5, which is not a number in \[0, 1\]"),
        ({"values": [float("nan")]}, "values: step 0 has nan"),
        ({"first_error": 1}, "first_error: 1, but there are 1 steps"),
        ({"first_error": -2}, "first_error: -2"),
        ({"kind": "steps"}, "kind: must be one of step, prefix, value"),
        ({"correct": 1}, "correct: must be true, false or null"),
        ({"completions": [-1]}, "completions: step 0 has -1"),
        ({"generation": 1.0}, "generation: must be a whole number"),
        ({"answer": 4}, "answer: must be text, not int"),
        ({"steps": [4]}, "steps: step 0 must be text, not int"),
        ({"extra": [1]}, "extra: must be an object"),
        ({"lable": [1]}, "no field 'lable'; a record may have problem, steps"),
    ],
)
def test_a_record_that_contradicts_itself(changes, message):
    with pytest.raises(SchemaError, match=message):
        LabelledSolution.from_json({"problem": "p", "steps": ["a"], **changes})
    with pytest.raises(SchemaError, match="no field 'steps'"):
        LabelledSolution.from_json({"problem": "p"})


def test_records_of_a_group_have_one_share():
    one, same = LabelledSolution("What is  2+2?\n", ("a",)), LabelledSolution("What is 2+2?", ("b",))
    assert one.share() == same.share() != one.share("salt") and 0 <= one.share() < 1
    assert LabelledSolution("x", (), group="g").share() == LabelledSolution("y", (), group="g").share()
    shares = [LabelledSolution(str(i), ()).share() for i in range(2000)]
    assert 0.45 < np.mean(np.array(shares) < 0.5) < 0.55


@pytest.mark.parametrize(
    ("steps", "labels", "place", "at_half"),
    [
        (3, {"ratings": (1, -1, 1)}, 1, 1),
        (3, {"ratings": (1, 0, 1)}, -1, -1),
        (3, {"ratings": (1, None, -1)}, None, None),
        (3, {"ratings": (1, None, None), "first_error": 2}, 2, 2),
        (3, {"values": (0.5, 0.4, 0.9), "kind": "value"}, None, 1),
        (3, {"ratings": (None, 1, None), "values": (0.9, 0.1, 0.2)}, None, 2),
        (0, {}, None, None),
        (0, {"first_error": -1}, -1, -1),
    ],
)
def test_where_the_first_error_is(steps, labels, place, at_half):
    record = LabelledSolution("p", ("s",) * steps, **labels)
    assert record.error_at() == place
    assert record.error_at(0.5) == at_half


def test_a_value_counts_as_a_rating_from_the_threshold_on_and_a_rating_goes_first():
    record = LabelledSolution("p", ("s",) * 4, ratings=(None, None, 0, None), values=(0.5, 0.25, 0.1, None))
    assert record.ratings_at(0.5) == (1, -1, 0, None)
    assert record.ratings_at(0.25) == (1, 1, 0, None)

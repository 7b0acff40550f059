"""Records as rows of TFDS features, and back without loss.

Unknown values are a number outside of the range in columns of numbers, an empty text in columns of texts.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from stepjax.data.schema import LabelledSolution

NOT_KNOWN = -(2**31)
"""Stands for None in columns of whole numbers; NaN does in `values`."""

_TEXTS = ("problem", "kind", "answer", "source", "place", "id", "labeller", "group")
_WHOLE = ("first_error", "correct", "generation")
_PER_STEP = ("ratings", "completions", "tokens")


def features() -> Any:
    """The `tfds.features.FeaturesDict` of a record."""
    import tensorflow_datasets as tfds

    texts = {name: tfds.features.Text() for name in (*_TEXTS, "extra")}
    whole = {name: tfds.features.Scalar(dtype=np.int32) for name in _WHOLE}
    steps = {name: tfds.features.Sequence(np.int32) for name in _PER_STEP}
    columns = {"steps": tfds.features.Sequence(tfds.features.Text()), "values": tfds.features.Sequence(np.float32)}
    return tfds.features.FeaturesDict(texts | whole | steps | columns)


def to_row(record: LabelledSolution) -> dict[str, Any]:
    """The row in the form of `features().encode_example`."""
    row: dict[str, Any] = {name: getattr(record, name) for name in _TEXTS}
    for name in _WHOLE:
        value = getattr(record, name)
        row[name] = NOT_KNOWN if value is None else int(value)
    for name in _PER_STEP:
        row[name] = [NOT_KNOWN if entry is None else entry for entry in getattr(record, name)]
    row["values"] = [math.nan if entry is None else entry for entry in record.values]
    row["steps"] = list(record.steps)
    extra = json.dumps(dict(record.extra), ensure_ascii=False, allow_nan=False, sort_keys=True)
    row["extra"] = extra if record.extra else ""
    return row


def from_row(row: Mapping[str, Any]) -> LabelledSolution:
    """The record of a row that a TFDS data source gives (texts as bytes, columns as arrays)."""
    given: dict[str, Any] = {name: _text(row[name]) for name in _TEXTS}
    given |= {name: _known(row[name]) for name in _WHOLE}
    if given["correct"] is not None:
        given["correct"] = bool(given["correct"])
    given |= {name: tuple(_known(entry) for entry in row[name]) for name in _PER_STEP}
    given["values"] = tuple(None if math.isnan(entry) else float(entry) for entry in row["values"])
    extra = _text(row["extra"])
    return LabelledSolution(steps=tuple(_text(step) for step in row["steps"]), **given, extra=json.loads(extra or "{}"))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _known(value: Any) -> int | None:
    return None if (found := int(value)) == NOT_KNOWN else found


def to_bytes(record: LabelledSolution) -> bytes:
    """The record as the `tf.train.Example` that TFDS makes of `to_row`, at a tenth of its cost."""
    from tensorflow_datasets.proto import tf_example_pb2

    example = tf_example_pb2.Example()
    column = example.features.feature
    for name, value in to_row(record).items():
        if name == "steps":
            column[name].bytes_list.value.extend([text.encode() for text in value])
        elif isinstance(value, str):
            column[name].bytes_list.value.append(value.encode())
        elif name == "values":
            column[name].float_list.value.extend(value)
        elif isinstance(value, list):
            column[name].int64_list.value.extend(value)
        else:
            column[name].int64_list.value.append(value)
    return example.SerializeToString()


def from_bytes(data: bytes) -> LabelledSolution:
    """The record of a serialised `tf.train.Example`, without TFDS's general parser."""
    from tensorflow_datasets.proto import tf_example_pb2

    column = tf_example_pb2.Example.FromString(data).features.feature
    row: dict[str, Any] = {name: column[name].bytes_list.value[0] for name in (*_TEXTS, "extra")}
    row |= {name: column[name].int64_list.value[0] for name in _WHOLE}
    row |= {name: column[name].int64_list.value for name in _PER_STEP}
    return from_row(row | {"steps": column["steps"].bytes_list.value, "values": column["values"].float_list.value})

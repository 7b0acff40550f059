"""GSM8K [Cobbe 2021]: grade-school problems, one step per line of the reference solutions. MIT License."""

from typing import ClassVar

from stepjax.data.builders.base import StepDatasetBuilder


class Builder(StepDatasetBuilder):
    SOURCE = "gsm8k"
    HOMEPAGE = "https://github.com/openai/grade-school-math"
    FILES: ClassVar = {
        "train": {
            "train.jsonl": (
                "https://raw.githubusercontent.com/openai/grade-school-math/master/grade_school_math/data/train.jsonl"
            ),
        },
        "test": {
            "test.jsonl": (
                "https://raw.githubusercontent.com/openai/grade-school-math/master/grade_school_math/data/test.jsonl"
            ),
        },
    }

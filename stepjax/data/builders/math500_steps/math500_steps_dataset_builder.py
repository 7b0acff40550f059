"""MATH-500: the test problems of [Lightman 2023]'s split of MATH. MIT License."""

from typing import ClassVar

from stepjax.data.builders.base import StepDatasetBuilder


class Builder(StepDatasetBuilder):
    SOURCE = "math"
    HOMEPAGE = "https://github.com/openai/prm800k"
    FILES: ClassVar = {
        "test": {
            "math500.jsonl": (
                "https://media.githubusercontent.com/media/openai/prm800k/main/prm800k/math_splits/test.jsonl"
            ),
        },
    }

"""Math-Shepherd [Wang 2023]: hard Monte Carlo labels of GSM8K and MATH solutions. MIT License."""

from typing import ClassVar

from stepjax.data.builders.base import StepDatasetBuilder


class Builder(StepDatasetBuilder):
    SOURCE = "math_shepherd"
    HOMEPAGE = "https://huggingface.co/datasets/peiyi9979/Math-Shepherd"
    FILES: ClassVar = {
        "train": {
            "math-shepherd.jsonl": (
                "https://huggingface.co/datasets/peiyi9979/Math-Shepherd/resolve/main/math-shepherd.jsonl"
            ),
        },
    }

"""PRM800K [Lightman 2023]: steps of MATH solutions rated good, neutral or bad by people. MIT License."""

from typing import ClassVar

from stepjax.data.builders.base import StepDatasetBuilder


class Builder(StepDatasetBuilder):
    SOURCE = "prm800k"
    HOMEPAGE = "https://github.com/openai/prm800k"
    FILES: ClassVar = {
        "train": {
            "phase1_train.jsonl": (
                "https://media.githubusercontent.com/media/openai/prm800k/main/prm800k/data/phase1_train.jsonl"
            ),
            "phase2_train.jsonl": (
                "https://media.githubusercontent.com/media/openai/prm800k/main/prm800k/data/phase2_train.jsonl"
            ),
        },
        "test": {
            "phase1_test.jsonl": (
                "https://media.githubusercontent.com/media/openai/prm800k/main/prm800k/data/phase1_test.jsonl"
            ),
            "phase2_test.jsonl": (
                "https://media.githubusercontent.com/media/openai/prm800k/main/prm800k/data/phase2_test.jsonl"
            ),
        },
    }

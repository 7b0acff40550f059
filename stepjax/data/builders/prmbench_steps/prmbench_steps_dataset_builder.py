"""PRMBench [Song 2025]: planted errors in PRM800K solutions, for evaluation. Apache-2.0 License."""

from typing import ClassVar

from stepjax.data.builders.base import StepDatasetBuilder


class Builder(StepDatasetBuilder):
    SOURCE = "prmbench"
    HOMEPAGE = "https://prmbench.github.io"
    FILES: ClassVar = {
        "test": {
            "prmtest_classified.jsonl": (
                "https://huggingface.co/datasets/hitsmy/PRMBench_Preview/resolve/main/prmtest_classified.jsonl"
            ),
        },
    }

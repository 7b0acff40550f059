"""ProcessBench [Zheng 2024]: the first error of solutions to four benchmarks, by people. Apache-2.0 License."""

from typing import ClassVar

from stepjax.data.builders.base import StepDatasetBuilder


class Builder(StepDatasetBuilder):
    SOURCE = "processbench"
    HOMEPAGE = "https://huggingface.co/datasets/Qwen/ProcessBench"
    FILES: ClassVar = {
        "gsm8k": {
            "gsm8k.json": ("https://huggingface.co/datasets/Qwen/ProcessBench/resolve/main/gsm8k.json"),
        },
        "math": {
            "math.json": ("https://huggingface.co/datasets/Qwen/ProcessBench/resolve/main/math.json"),
        },
        "olympiadbench": {
            "olympiadbench.json": ("https://huggingface.co/datasets/Qwen/ProcessBench/resolve/main/olympiadbench.json"),
        },
        "omnimath": {
            "omnimath.json": ("https://huggingface.co/datasets/Qwen/ProcessBench/resolve/main/omnimath.json"),
        },
    }

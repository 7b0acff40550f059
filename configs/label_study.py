"""How accurate are Monte Carlo labels, and what do they cost? Three completers, measured against exact labels.

Cost: a few minutes on one CPU core.

    stepjax quickstart --config.seed=1 --workdir=runs/seed1
    stepjax sft --config=quickstart --config.seed=1 --config.updates=900 --workdir=runs/weak
    python -m stepjax.studies.label_study --config.base=runs/seed1 --workdir=runs/label_study \\
        weak=runs/weak:sft middle=runs/seed1:sft strong=runs/seed1:ppo

The base run's SFT policy samples `label.problems` × `label.samples` solutions; `label.most` is the largest N.
"""

import runpy
from pathlib import Path


def get_config():
    config = runpy.run_path(str(Path(__file__).with_name("quickstart.py")))["get_config"]()
    config.label.split = "test"
    config.label.problems = 128
    config.label.samples = 1
    config.label.most = 64
    return config

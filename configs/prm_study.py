"""Which labels should a process reward model learn from? Five kinds, one budget, measured on three distributions.

    stepjax sft --config=quickstart --config.seed=0 --workdir=runs/seed0
    python -m stepjax.studies.prm_study --config=prm_study --config.base=runs/seed0 --workdir=runs/study0
    python -m stepjax.studies.prm_study --table runs/study0 runs/study1 runs/study2

Cost: two minutes for a base and seven to ten for a study, on two CPU cores.

Every reward model starts from the base run's SFT policy (a quickstart's work directory has one too) and trains on the
same sampled responses for the same number of updates; only the labels differ. `prm.samples` is the number of responses;
best-of-N is measured on `eval.problems` × `eval.pool` others.
"""

import runpy
from pathlib import Path


def get_config():
    config = runpy.run_path(str(Path(__file__).with_name("quickstart.py")))["get_config"]()
    config.prm.samples = 768
    config.prm.demonstrations = 0
    config.prm.updates = 150
    config.prm.valid_samples = 0
    config.prm.checkpoint_every = 150
    config.prm.row_tokens = 96
    config.prm.rows = 12
    config.ppo.prompt_tokens = 48
    config.ppo.max_new_tokens = 48
    config.eval.problems = 32
    config.eval.rows = 128
    return config

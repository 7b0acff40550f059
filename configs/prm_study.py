"""Which labels should a process reward model learn from? Five kinds, one budget, three worlds to be measured in.

    stepjax quickstart --config.seed=0 --workdir=runs/seed0
    python -m stepjax.studies.prm_study --config=prm_study --config.base=runs/seed0 --workdir=runs/study0
    python -m stepjax.studies.prm_study --table runs/study0 runs/study1 runs/study2

Every reward model starts from the base's SFT policy and sees the same sampled responses as often as the others; only
what their steps are labelled with differs. `prm.samples` is how many responses, `eval.problems` × `eval.pool` what
best-of-N is measured on.
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

"""RegisterChain with one to eight operations: long enough that a single sample is rarely right, for `stepjax search`.

Cost: some six minutes on two CPU cores.

    stepjax sft --config=long_chains --workdir=runs/long
    stepjax prm --config=long_chains --workdir=runs/long
    stepjax search --config=long_chains --config.base=runs/long --workdir=runs/chains8 \\
        "--config.task.register_chain.operations=(8,8)" --config.method=beam --config.n=16
"""

import runpy
from pathlib import Path


def get_config():
    config = runpy.run_path(str(Path(__file__).with_name("quickstart.py")))["get_config"]()
    config.task.register_chain.operations = (1, 8)
    config.sft.row_tokens = 192
    config.prm.row_tokens = 192
    config.prm.samples = 3072
    config.prm.demonstrations = 1024
    config.ppo.prompt_tokens = 64
    config.ppo.max_new_tokens = 80
    return config

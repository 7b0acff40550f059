"""Step-level PPO on Countdown: all given numbers are to become a target, and nobody says by which moves.

    stepjax quickstart --config=countdown --workdir=runs/countdown

Sizes and training are the quickstart's. Of the demonstrations' first moves more than a quarter lead nowhere, most of
which are taken back.
"""

import runpy
from pathlib import Path


def get_config():
    config = runpy.run_path(str(Path(__file__).with_name("quickstart.py")))["get_config"]()
    config.task.name = "countdown"
    config.task.countdown.numbers = (3, 3)
    config.task.countdown.shuffled_names = False
    return config

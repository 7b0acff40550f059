"""Does a policy learn to repair its errors? Demonstrations with wrong tries that are taken back, then PPO.

    stepjax quickstart --config=repair:0.5 --config.seed=0 --workdir=runs/step50-0
    stepjax quickstart --config=repair:0.5:outcome --config.seed=0 --config.base=runs/step50-0 --workdir=runs/right50-0

The argument is the share of derivations before which the author writes a wrong try and takes it back, again and again
with the same probability. Without an arm, step-level PPO follows: it is paid by a reward model that learned the task's
ratings, to which a repair is good, a needless one neutral, an error bad. `:outcome` takes the base run's SFT policy and
pays right answers alone. `--config.task.register_chain.retry_masked=True` keeps the wrong tries out of the SFT loss.

Sizes are the quickstart's; responses may be longer, at every share. For dead ends that must be left, add
`--config.task.register_chain.forks='(1,2)' --config.ppo.prompt_tokens=72 --config.sft.row_tokens=208
--config.prm.row_tokens=208`; such a run has demonstrations, and so a policy and a reward model, of its own.
"""

import runpy
from pathlib import Path

from stepjax.options import stream

ARMS = ("step", "outcome")


def get_config(argument="0.5"):
    share, _, arm = str(argument).partition(":")
    if (arm or "step") not in ARMS:
        raise ValueError(f"no arm {arm!r}; there are " + ", ".join(ARMS))
    config = runpy.run_path(str(Path(__file__).with_name("quickstart.py")))["get_config"]()
    config.task.register_chain.retry = float(share)
    config.sft.row_tokens = 168
    config.prm.row_tokens = 168
    config.ppo.max_new_tokens = 128
    if arm == "outcome":
        config.stages = ("ppo",)
        config.from_base = ("sft",)
        config.ppo.streams = {"outcome": stream(signal="outcome", horizon="response", lam=1.0, bad=0.0)}
    return config

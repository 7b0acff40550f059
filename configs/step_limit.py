"""A step limit stated in the prompt (`a=7;b=a+5;?b!4`: at most four), and a stream that rewards keeping it.

    stepjax quickstart --config=step_limit:free --config.stages='("sft","prm","ppo")' --workdir=runs/free0
    stepjax quickstart --config=step_limit:kept --config.base=runs/free0 --workdir=runs/kept0
    stepjax quickstart --config=step_limit:padded --config.base=runs/free0 --workdir=runs/padded0

`free` ignores the limit; `kept` adds the stream. `padding` rewards true but useless steps like good ones, so that
longer responses earn more; `padded` is `padding` with the stream.
"""

import runpy
from pathlib import Path

from stepjax.options import stream

ARMS = ("free", "kept", "padding", "padded")


def get_config(arm="kept"):
    if arm not in ARMS:
        raise ValueError(f"no arm {arm!r}; there are " + ", ".join(ARMS))
    config = runpy.run_path(str(Path(__file__).with_name("quickstart.py")))["get_config"]()
    config.stages = ("ppo",)
    config.task.register_chain.step_limit = True
    config.ppo.prompt_tokens = 36
    if arm in ("padding", "padded"):
        config.ppo.streams.process = stream(signal="prm", horizon="response", good=1.0, neutral=1.0, bad=-1.0)
    if arm in ("kept", "padded"):
        config.ppo.streams.limit = stream(signal="limit", horizon="response", lam=1.0, weight=0.5)
    return config

"""One RegisterChain, one SFT policy, one budget, many ways to credit: which of them helps?

    stepjax quickstart --config=quickstart --config.seed=0 --workdir=runs/seed0
    stepjax quickstart --config=credit_arms:clip --config.seed=0 --config.base=runs/seed0 --workdir=runs/clip0

The arm stands after the colon. PPO starts from the base's SFT policy and is paid by the base's PRM; only `progress`
trains a PRM of its own, one that says how likely the right answer still is. Every arm samples 128 responses a round.
"""

import runpy
from pathlib import Path

from stepjax.options import stream

WORTH = {"signal": "prm", "good": 1.0, "neutral": -0.5, "bad": -1.0}
OUTCOME = {"signal": "outcome", "horizon": "response", "bad": 0.0}


def _shaped(*shaping: str):
    """Shaped scores summed over the response, with the outcome, as Clip, Delta and min-form are used."""
    return {
        "process": stream(**WORTH, horizon="response", shaping=shaping),
        "outcome": stream(**OUTCOME, lam=1.0),
    }


ARMS = {
    "step": {"process": stream(**WORTH, horizon="step")},
    "sum": {"process": stream(**WORTH, horizon="response")},
    # What is summed where a PRM says "correct" or "not", so that true but useless steps are paid.
    "sum_true": {"process": stream(signal="prm", horizon="response", good=1.0, neutral=1.0, bad=0.0)},
    "clip": _shaped("clip:0.5"),
    "delta": _shaped("delta"),
    "clip_delta": _shaped("clip:0.5", "delta"),
    "min_form": _shaped("min_form:0.1"),
    "progress": {"process": stream(signal="prm", estimator="progress", good=1.0, neutral=0.5, bad=0.0, first=0.5)},
    "outcome": {"outcome": stream(**OUTCOME, lam=1.0)},
    "step_outcome": {"process": stream(**WORTH, horizon="step"), "outcome": stream(**OUTCOME, lam=1.0)},
    "grpo": {"process": stream(**WORTH, horizon="response", estimator="group")},
    "rloo": {"outcome": stream(**OUTCOME, estimator="rloo")},
}


def get_config(arm="step"):
    if arm not in ARMS:
        raise ValueError(f"no arm {arm!r}; there are " + ", ".join(ARMS))
    config = runpy.run_path(str(Path(__file__).with_name("quickstart.py")))["get_config"]()
    config.stages = ("prm", "ppo") if arm == "progress" else ("ppo",)
    config.ppo.streams = ARMS[arm]
    if arm == "progress":
        config.prm.target = "value"
    if arm in ("grpo", "rloo"):
        config.ppo.prompts, config.ppo.samples = 32, 4
    return config

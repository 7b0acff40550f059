"""Which way to credit helps? One task, one SFT policy and one budget for all arms.

    stepjax quickstart --config=quickstart --config.seed=0 --workdir=runs/seed0
    stepjax quickstart --config=credit_arms:clip --config.seed=0 --config.base=runs/seed0 --workdir=runs/clip0

The arm's name follows the colon. PPO starts from the base run's SFT policy and is rewarded by the base run's PRM; only
the arms in `VALUE` train a PRM of their own, which predicts how likely the right answer still is. Every arm samples 128
responses a round; `value_refit` spends every fourth round on its critic alone.
"""

import runpy
from pathlib import Path

from stepjax.options import stream

WORTH = {"signal": "prm", "good": 1.0, "neutral": -0.5, "bad": -1.0}
VALUE_WORTH = {"signal": "prm", "good": 1.0, "neutral": 0.5, "bad": 0.0}
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
    # As with a PRM that knows only "correct" and "incorrect": true but useless steps are rewarded.
    "sum_true": {"process": stream(signal="prm", horizon="response", good=1.0, neutral=1.0, bad=0.0)},
    "clip": _shaped("clip:0.5"),
    "delta": _shaped("delta"),
    "clip_delta": _shaped("clip:0.5", "delta"),
    "min_form": _shaped("min_form:0.1"),
    "value": {"process": stream(**VALUE_WORTH, estimator="value")},
    "progress": {"process": stream(**VALUE_WORTH, estimator="progress", first=0.5)},
    "outcome": {"outcome": stream(**OUTCOME, lam=1.0)},
    "step_outcome": {"process": stream(**WORTH, horizon="step"), "outcome": stream(**OUTCOME, lam=1.0)},
    "grpo": {"process": stream(**WORTH, horizon="response", estimator="group")},
    "rloo": {"outcome": stream(**OUTCOME, estimator="rloo")},
    "value_critic": {"outcome": stream(**OUTCOME, critic_trunk="prm")},
    "value_frozen": {"outcome": stream(**OUTCOME, critic_trunk="prm")},
    "value_refit": {"outcome": stream(**OUTCOME, critic_trunk="prm")},
}
VALUE = ("value", "progress", "value_critic", "value_frozen", "value_refit")


def get_config(arm="step"):
    if arm not in ARMS:
        raise ValueError(f"no arm {arm!r}; there are " + ", ".join(ARMS))
    config = runpy.run_path(str(Path(__file__).with_name("quickstart.py")))["get_config"]()
    config.stages = ("prm", "ppo") if arm in VALUE else ("ppo",)
    config.from_base = ("sft",)
    config.ppo.streams = ARMS[arm]
    config.ppo.critic_frozen = arm == "value_frozen"
    config.ppo.critic_refit = 4 if arm == "value_refit" else 0
    if arm in VALUE:
        config.prm.target = "value"
        config.prm.every_token = arm.startswith("value_")
    if arm in ("grpo", "rloo"):
        config.ppo.prompts, config.ppo.samples = 32, 4
    return config

"""The rules that the study of credit measures: the published ones and stepjax's own."""

import dataclasses

from stepjax.config import PPOOptions
from stepjax.options import from_dict, parse, recipe, stream
from stepjax.studies.credit_rows import EXACT, Judges

PUBLISHED = (
    "grpo",
    "dr_grpo",
    "rloo",
    "reinforce_pp",
    "reinforce_pp_baseline",
    "areal_turn_gae",
    "turn_ppo",
    "sae",
    "spo_chain",
    "spo_tree",
    "gigpo",
    "spro",
    "unbiased_turns",
    "grpo_process",
    "papo",
    "pure",
    "clip_delta",
    "mona",
    "mrpo",
    "draco",
    "pav",
    "vineppo",
)
"""Of configs/rules. Without those that credit as GRPO does and differ in the loss alone (gspo, cispo, sapo, dppo), and
without dapo, whose limit of length means nothing here, and prime, whose model is trained along with a policy."""

_OUTCOME = {"signal": "outcome", "horizon": "response", "bad": 0.0}
_VALUES = {"signal": "prm", "estimator": "progress", "prompt_value": "others", "bad": 0.0, "neutral": 0.5}
OWN = {
    "outcome_return": {"outcome": stream(**_OUTCOME, estimator="return")},
    "outcome_gae": {"outcome": stream(**_OUTCOME, lam=0.95)},
    "outcome_gae_1": {"outcome": stream(**_OUTCOME, lam=1.0)},
    "outcome_gae_exact": {"outcome": stream(**_OUTCOME, lam=0.95)},
    "process_sum": {"process": stream(signal="prm", horizon="response", estimator="return")},
    "step": {"process": stream(signal="prm", horizon="step")},
    "step_outcome": {
        "process": stream(signal="prm", horizon="step"),
        "outcome": stream(**_OUTCOME, lam=1.0, weight=0.5),
    },
    "progress": {"process": stream(**_VALUES)},
    "exact": {"outcome": stream(**_OUTCOME, lam=0.0, whiten=False)},
}
"""stepjax's own: the outcome without a baseline, with a critic at λ = .95 and 1, and with one that does not err; the
sum of all scores that follow; step-level PPO, and the outcome on top; differences of a value PRM. `exact`, differences
of exact values, is what all of them could be."""

RULES = (*PUBLISHED, *OWN)
_VALUE_PRM = Judges(value_prm=True)
_JUDGES = {"pav": _VALUE_PRM, "progress": _VALUE_PRM, "outcome_gae_exact": EXACT, "exact": EXACT}


@dataclasses.dataclass(frozen=True)
class Rule:
    """A rule by name, the options that express it, and how good its scores are."""

    name: str
    options: PPOOptions
    judges: Judges


def make_rule(name: str, samples: int) -> Rule:
    """The rule, in groups of `samples` responses."""
    if name in OWN:
        config = recipe()
        config.ppo.streams = OWN[name]
        options = from_dict(config).ppo
    else:
        options = parse([f"--config=rules/{name}"], "ppo").config.ppo
    return Rule(name, dataclasses.replace(options, samples=samples), _JUDGES.get(name, Judges()))

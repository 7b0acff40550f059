"""Expert iteration from search against PPO, with the same number of generated tokens.

    stepjax quickstart --config=quickstart --workdir=runs/quickstart
    stepjax quickstart --config=improve:beam --config.base=runs/quickstart --seeds=0,1,2 --workdir=runs/beam
    stepjax quickstart --config=improve:ppo --config.base=runs/quickstart --seeds=0,1,2 --workdir=runs/ppo

The arm's name follows the colon. All start from the base run's SFT policy, and read the base run's process reward
model, or grades alone. PPO writes some 150,000 tokens in its 60 rounds; a search writes about 80 a problem with four
lines, so that three rounds of 620 problems write as many; 16 simulations write 110 at first and fewer later. A minute
or two an arm on two idle CPU cores.
"""

import runpy
from pathlib import Path

from stepjax.options import stream

OUTCOME = stream(signal="outcome", horizon="response", bad=0.0, lam=1.0)
BEST_OF_N = {"search.method": "best_of_n", "search.n": 4, "improve.problems": 570}
BEAM = {"search.method": "beam", "search.n": 4, "search.width": 4, "improve.problems": 620}
PUCT = {"search.method": "puct", "search.sims": 16, "search.width": 4, "improve.problems": 450}
IMPROVE = {
    # ReST-EM: samples and grades, no reward model.
    "rest_em": {**BEST_OF_N, "search.prm": "uniform"},
    "best_of_n": BEST_OF_N,
    "beam": BEAM,
    "beam_on": {**BEAM, "improve.restart": False},
    "visits": {**PUCT, "improve.targets": "visits", "improve.kl": 0.02},
}
PPO = {
    "ppo": None,
    "outcome": {"outcome": OUTCOME},
}


def get_config(arm="beam"):
    if arm not in {**IMPROVE, **PPO}:
        raise ValueError(f"no arm {arm!r}; there are " + ", ".join({**IMPROVE, **PPO}))
    config = runpy.run_path(str(Path(__file__).with_name("quickstart.py")))["get_config"]()
    config.from_base = ("sft",) if arm in ("rest_em", "outcome") else ("sft", "prm")
    config.stages = ("ppo",) if arm in PPO else ("improve",)
    if PPO.get(arm):
        config.ppo.streams = PPO[arm]
    config.improve.rounds = 3
    config.improve.updates = 200
    config.improve.rows = 16
    config.improve.row_tokens = 96
    config.improve.optimizer.lr = 1e-3
    config.improve.optimizer.weight_decay = 0.1
    config.improve.valid_problems = 512
    for name, value in IMPROVE.get(arm, {}).items():
        section, _, option = name.partition(".")
        setattr(getattr(config, section), option, value)
    return config

"""Published rules on small responses: the numbers of their papers or of their authors' code.

A response is a text: `t` is a token, `|` ends a step, `/` a turn (and a step), `.` is a token of the environment.
Rewards are one list a response, one entry a token of the policy's; None where there is no score. `expected` is the
weight of each token before `ppo.whiten`, or after it where `whitened`.
"""

import dataclasses
import math
from typing import Any

_ = None
EARLY = math.exp(0.5)  # MRPO's 1.65: the second of three steps
DAPO_STD = math.sqrt((0.125**2 + 2 * 0.375**2 + 0.625**2) / 3)
PURE = [r * math.exp(-r / 0.1) / sum(math.exp(-s / 0.1) for s in (0.8, -0.5, 0.6)) for r in (0.8, -0.5, 0.6)]


@dataclasses.dataclass(frozen=True)
class Case:
    rule: str
    responses: tuple[str, ...]
    rewards: dict[str, list[list[float | None]]]
    expected: list[list[float]]
    changes: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)  # options of streams
    values: list[list[float]] | None = None
    bootstrap: list[float] | None = None
    probabilities: list[list[float]] | None = None
    correct: tuple[bool, ...] = (False,) * 4
    finished: tuple[bool, ...] = (True,) * 4
    states: list[list[int]] | None = None
    whitened: bool = False


CASES = [
    Case(
        "areal_turn_gae",
        ("tt/.tt",),
        {"outcome": [[0, 3, 0, 4]], "kl": [[0, 0, 0, 0]]},
        [[3.75, 3.75, 6, 6]],
        {"outcome": {"gamma": 0.5, "lam": 0.25}},
        values=[[1, 5, 2, 8]],
        bootstrap=[8],
        finished=(False,) * 4,
    ),
    Case(
        "turn_ppo",
        ("tt/.tt",),
        {"outcome": [[_, _, _, 1]]},
        [[0.99 * 0.5 - 0.25 + 0.99 * 0.9 * 0.5] * 2 + [0.5] * 2],
        values=[[0.25, 7, 0.5, 7]],
    ),
    Case(
        "sae",
        ("tttt",),
        {"outcome": [[_, _, _, 1]]},
        [[0.35, 0.15, 0.9, 0.4]],
        {"outcome": {"lam": 0.5}},
        values=[[0.2, 0.4, 0.1, 0.6]],
        probabilities=[[0.9, 0.3, 0.1, 0.8]],
    ),
    Case("mona", ("tt|tt",), {"approval": [[_, 1, _, -1]]}, [[1, 1, -1, -1]]),
    Case(
        "vineppo",
        ("tt|tt", "t", "t"),
        {"progress": [[_, 0.75, _, 0.3], [0.5], [0.5]]},
        [[0.25, 0.25, -0.75, -0.75], [1], [-0.5]],
        correct=(False, True, False, False),
    ),
    Case(
        "spo_chain",
        ("ttttt",),
        {"outcome": [[_, _, _, _, 1]]},
        [[0, -0.25, 0, 0.75, 0]],
        {"outcome": {"unit": "cut:0.9:1"}},
        values=[[0.9, 0.5, 0.9, 0.25, 0.9]],
        probabilities=[[0.95, 0.5, 0.99, 0.7, 0.97]],
    ),
    Case("spo_tree", ("t", "t"), {"outcome": [[1], [0]]}, [[0.5], [-0.5]]),
    Case(
        "pav",
        ("t|t",),
        {"process": [[0.75, 0.5]], "outcome": [[_, 0]]},
        [[0.5**4 - 0.25**4, 0.25**4 - 0.5**4]],
        {"process": {"weight": 1.0}},
    ),
    Case("dr_grpo", ("t",) * 4, {"outcome": [[1], [0], [0], [1]]}, [[0.5], [-0.5], [-0.5], [0.5]]),
    Case("rloo", ("t",) * 4, {"outcome": [[1], [0], [0], [1]]}, [[2 / 3], [-2 / 3], [-2 / 3], [2 / 3]]),
    Case(
        "grpo_process",
        ("t|t", "t"),
        {"process": [[1, 0], [1]]},
        [[0.5**0.5 - 2**0.5, -(2**0.5)], [0.5**0.5]],
    ),
    Case(
        "reinforce_pp",
        ("tt", "t"),
        {"outcome": [[_, 1], [0]], "kl": [[0, 0], [0]]},
        [[0.5**0.5, 0.5**0.5], [-(2**0.5)]],
        whitened=True,
    ),
    Case(
        "reinforce_pp_baseline",
        ("tt", "t"),
        {"outcome": [[_, 1], [0]]},
        [[0.5**0.5, 0.5**0.5], [-(2**0.5)]],
        whitened=True,
    ),
    Case(
        "dapo",
        ("t",) * 4,
        {"outcome": [[1], [0], [0], [1]], "length": [[-0.5], [0], [0], [0]]},
        [[x / DAPO_STD] for x in (0.125, -0.375, -0.375, 0.625)],
        correct=(True, False, False, True),
    ),
    Case(
        "gigpo",
        ("t|t", "t|t"),
        {"outcome": [[_, 1], [_, 0]], "step": [[0, 1], [0, 0]]},
        [[0.95, 0.5], [-0.95, -0.5]],
        {"step": {"gamma": 0.9}},
        states=[[0, 1], [0, 2]],
    ),
    Case("unbiased_turns", ("t", "t/.t"), {"process": [[1], [1, 1]]}, [[-1], [1, 1]]),
    Case(
        "papo",
        ("t",) * 4,
        {"outcome": [[1], [1], [1], [0]], "process": [[1], [0.5], [0], [1]]},
        [[1.5], [0.5], [-0.5], [-1.5]],
        correct=(True, True, True, False),
    ),
    Case(
        "mrpo",
        ("t|t|t", "t", "t", "t"),
        {"outcome": [[_, _, 0], [0], [0], [1]], "process": [[1, -1, -1], [1], [-1], [-1]]},
        [[0.5, -0.5 * EARLY, -0.5], [0.5], [-0.5], [1.5]],
        correct=(False, False, False, True),
    ),
    Case(
        "draco",
        ("tt|tttt", "tt|tttt"),
        {
            "outcome": [[_] * 5 + [1], [_] * 5 + [0]],
            "gains": [[_, 0.75, _, _, _, 0.25]] * 2,
            "losses": [[_, 0.25, _, _, _, 0.75]] * 2,
        },
        [[2.25] * 2 + [0.375] * 4, [-0.75] * 2 + [-1.125] * 4],
    ),
    Case(
        "spro",
        ("tt", "t"),
        {"outcome": [[_, 1], [1]], "kl": [[-1, -2], [-3]]},
        [[-0.1, 0], [0.1]],
    ),
    Case(  # of the formula in the paper, before the sum: .1 .3 | −.2
        "prime",
        ("tt", "t"),
        {"implicit": [[0.2, 0.4], [0.1]], "outcome": [[_, 1], [1]]},
        [[0.1 + 0.3, 0.3], [-0.2]],
    ),
    Case(  # the authors' code, before the sum: 0 .4 | −.2; a mean of the means of responses, not of all tokens
        "prime",
        ("tt", "t"),
        {"implicit": [[0.2, 0.4], [0.1]], "outcome": [[_, 1], [0]]},
        [[0 + 0.4 + 1, 0.4 + 1], [-0.2 - 1]],
        {"implicit": {"baseline": "mean", "weight": 2.0}},
    ),
    Case(
        "prime",
        ("ttt", "t", "tt"),
        {"implicit": [[0.3, 0.6, 0], [0.1], [0.2, 0.5]], "outcome": [[_, _, 1], [0], [_, 0]]},
        [
            [1 + 0.9 - 3 * 0.225, 1 + 0.6 - 2 * 0.225, 1 - 0.225],
            [-0.5 + 0.1 - 0.325],
            [-0.5 + 0.7 - 2 * 0.2, -0.5 + 0.5 - 0.2],
        ],
    ),
    Case("pure", ("t|t|t",), {"process": [[0.8, -0.5, 0.6]]}, [[sum(PURE), sum(PURE[1:]), PURE[2]]]),
    Case(
        "clip_delta",
        ("t|t|t",),
        {"process": [[0.9, 0.4, 0.7]], "outcome": [[_, _, 0]]},
        [[0, -0.1, 0]],
    ),
    *(
        Case(
            rule,
            ("t",) * 4,
            {"outcome": [[1], [0], [0], [1]]},
            [[3**0.5 / 2], [-(3**0.5) / 2], [-(3**0.5) / 2], [3**0.5 / 2]],
        )
        for rule in ("grpo", "gspo", "cispo", "sapo", "dppo")
    ),
]

"""Invented work directories that look like those of real runs, for the tests of the report and for looking at it."""

import json
import math
import random
from pathlib import Path
from typing import Any

STREAMS = ("prm", "outcome", "length", "kl")

HOSTILE = (
    "<script>alert('x')</script> \"quoted\" 'single' </style></pre> &amp; {{ 7 * 7 }} {% raw %}\n"
    "bell \x07 escape \x1b[31m nul \x00 lone \ud800 override \u202egnp.exe\u202c zero\u200bwidth " + "wide" * 120
)


def write_workdir(folder: Path, *, iterations: int = 300, gamed: bool = False, hostile: bool = True) -> Path:
    """A run of all three stages on a task with exact step ratings. `gamed`: the reward rises, the truth falls."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(7)
    config = {
        "task": {"name": "register_chain", "operations": 4, "modulo": 10, "noisy": 0.15},
        "seed": 7,
        "model": {"width": 256, "depth": 4, "heads": 4, "dtype": "bfloat16"},
        "rollout": {"temperature": 1.0, "batch": 256, "max_tokens": 96},
        "streams": {"prm": {"weight": 1.0, "horizon": "step"}, "kl": {"weight": 0.05, "horizon": 0.0}},
        "ppo": {"clip": [0.2, 0.28], "learning_rate": 3e-05, "passes": 3, "resume": True, "reference": None},
    }
    (folder / "config.json").write_text(json.dumps(config))
    records = [*sft_records(rng), *prm_records(rng), *ppo_records(rng, iterations, gamed)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    (folder / "samples.jsonl").write_text("".join(json.dumps(s) + "\n" for s in samples(rng, iterations, hostile)))
    (folder / "eval.json").write_text(json.dumps(evaluation(gamed)))
    return folder


def write_gsm8k(folder: Path) -> Path:
    """A run without a reward model, a trace error or exact ratings; calculations are all that can be checked."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(3)
    records = [
        {
            "step": i, "stage": "ppo", "true/accuracy": 0.3 + 0.001 * i + rng.gauss(0, 0.02),
            "true/holds": 0.7 + 0.2 * i / 120, "true/calculation": 0.8 + rng.gauss(0, 0.01),
            "reward/calculation": 0.4 + 0.2 * i / 120 + rng.gauss(0, 0.02), "kl/reference": 1e-4 * i,
        }
        for i in range(1, 121)
    ]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    rows = {
        "sft": {"accuracy": 0.312, "accuracy_interval": [0.286, 0.338], "holds": 0.71, "calculation": 0.80},
        "ppo": {"accuracy": 0.334, "accuracy_interval": [0.308, 0.361], "holds": 0.89, "calculation": 0.79},
    }
    (folder / "eval.json").write_text(json.dumps({"problems": 1319, "split": "test", "rows": rows}))
    return folder


def sft_records(rng: random.Random) -> list[dict[str, Any]]:
    return [
        {
            "step": step, "stage": "sft", "loss": 0.42 + 2.1 * math.exp(-step / 90) + rng.gauss(0, 0.02),
            "tokens_per_second": 41000 + rng.gauss(0, 900), "grad_norm": 1 + rng.random(),
            "seconds": {"data": 0.02, "update": 0.11 + rng.random() / 50},
        } | ({"valid/loss": 0.45 + 2.0 * math.exp(-step / 90)} if step % 50 == 0 else {})
        for step in range(10, 601, 10)
    ]  # fmt: skip


def prm_records(rng: random.Random) -> list[dict[str, Any]]:
    return [
        {
            "step": step, "stage": "prm", "loss": 0.2 + 0.9 * math.exp(-step / 80) + rng.gauss(0, 0.015),
            "accuracy": 0.93 - 0.5 * math.exp(-step / 80) + rng.gauss(0, 0.01), "seconds": {"update": 0.13},
        } | ({"valid/macro_f1": 0.89 - 0.45 * math.exp(-step / 80)} if step % 40 == 0 else {})
        for step in range(10, 401, 10)
    ]  # fmt: skip


def ppo_records(rng: random.Random, iterations: int, gamed: bool = False) -> list[dict[str, Any]]:
    records = []
    for i in range(1, iterations + 1):
        t = i / iterations
        rise = 1 - math.exp(-3 * t)
        accuracy = 0.42 + (0.25 * math.sin(math.pi * t) - 0.2 * t if gamed else 0.42 * rise) + rng.gauss(0, 0.02)
        bad = 0.22 - 0.16 * rise + rng.gauss(0, 0.008)
        neutral = 0.14 - 0.06 * rise + rng.gauss(0, 0.006)
        record: dict[str, Any] = {
            "step": i, "stage": "ppo",
            "true/accuracy": accuracy, "true/trace_error": 0.3 - 0.2 * rise + rng.gauss(0, 0.015),
            "true/good": 1 - bad - neutral, "true/neutral": neutral, "true/bad": bad,
            "prm/good": 1 - bad - neutral + 0.02, "prm/neutral": neutral - 0.01, "prm/bad": bad - 0.01,
            "prm/agreement": 0.91 - 0.04 * t + rng.gauss(0, 0.008),
            "reward/prm": 1.9 + 1.6 * rise + rng.gauss(0, 0.06), "reward/outcome": accuracy,
            "reward/length": -0.08 + 0.03 * rise + rng.gauss(0, 0.006), "reward/kl": -0.04 * rise + rng.gauss(0, 0.002),
            "kl/reference": 0.8 * rise + abs(rng.gauss(0, 0.02)), "kl/update": 0.008 + abs(rng.gauss(0, 0.003)),
            "entropy": 0.9 - 0.5 * rise + rng.gauss(0, 0.01),
            "length/tokens": 38 + 4 * math.sin(6 * t) + rng.gauss(0, 0.7), "length/steps": 5.2 + 0.4 * t,
            "length/truncated": max(0.0, 0.04 - 0.05 * t + rng.gauss(0, 0.006)),
            "mismatch/mean": 2e-4 * math.exp(rng.gauss(0, 0.3)), "mismatch/max": 1e-2 * math.exp(rng.gauss(0, 0.5)),
            "policy/clip_fraction": 0.06 + abs(rng.gauss(0, 0.02)), "policy/loss": -0.01 + rng.gauss(0, 0.004),
            "grad_norm/policy": 0.6 + abs(rng.gauss(0, 0.2)), "grad_norm/critic": 1.4 + abs(rng.gauss(0, 0.4)),
            "repeat/steps": 0.02 + abs(rng.gauss(0, 0.004)),
            "router/load": 0.5 + rng.gauss(0, 0.02), "router/dropped": 0.01, "warmup": min(1.0, i / 20),
            "seconds": {"rollout": 1.9 + rng.random() / 5, "score": 0.31, "rate": 0.04,
                        "update": 1.2 + rng.random() / 9},
        }  # fmt: skip
        for s, stream in enumerate(STREAMS):
            record[f"explained_variance/{stream}"] = (0.75 - 0.12 * s) * rise + rng.gauss(0, 0.03)
            record[f"advantage_std/{stream}"] = 0.5 / (s + 1) * (1 - 0.3 * rise) + rng.gauss(0, 0.008)
            record[f"value_loss/{stream}"] = 0.2 / (s + 1) * math.exp(-2 * t) + abs(rng.gauss(0, 0.006))
        if iterations // 3 < i < iterations // 3 + 12:  # a stretch without figures
            record |= {"entropy": None, "kl/update": float("nan")}
            del record["prm/agreement"]
        records.append(record)
    return records


def samples(rng: random.Random, iterations: int, hostile: bool = True) -> list[dict[str, Any]]:
    """Responses logged in SFT once, and in PPO at five iterations, eight problems each."""
    logged = [("sft", 600), *(("ppo", max(1, iterations * k // 4)) for k in range(5))]
    found = []
    for stage, step in logged:
        for p in range(8):
            sample = _sample(
                rng, stage, step, p, skill=0.55 if stage == "sft" else 0.55 + 0.4 * step / max(iterations, 1)
            )
            if hostile and p == 2:
                sample["steps"][1]["text"] = HOSTILE
                sample["prompt"] += "\n</div><img src=x onerror=alert(1)>"
            found.append(sample)
    return found


def _sample(rng: random.Random, stage: str, step: int, problem: int, skill: float) -> dict[str, Any]:
    draw = random.Random(problem)  # the problem itself is the same in every iteration
    value, lines, texts, wrong = draw.randint(0, 9), [], [], False
    lines.append(f"a={value}")
    for name in "bcde"[: 3 + problem % 2]:
        operand = draw.randint(1, 9)
        lines.append(f"{name}={chr(ord(name) - 1)}+{operand}")
        slip = rng.random() > skill
        wrong = wrong or slip
        texts.append((f"{name}={value}+{operand}={(value + operand + slip * 3) % 10};", -1 if slip else 1))
        value = (value + operand) % 10
        if rng.random() > 0.85:
            texts.append((texts[-1][0], 0))
    texts.append((f"answer: {(value + wrong * 3) % 10}", -1 if wrong else 1))
    steps = []
    for text, rating in texts:
        sure = 0.55 + 0.43 * rng.random()
        rest = (1 - sure) * rng.random()
        prm = [(1 - sure - rest), rest, sure] if rating == 1 else [rest, sure, 1 - sure - rest]
        prm = [sure, rest, 1 - sure - rest] if rating == -1 else prm
        prm = [prm[2], prm[1], prm[0]] if rng.random() > 0.93 else prm
        reward = {"prm": prm[2] - prm[0], "outcome": 0.0, "length": -0.01, "kl": rng.gauss(-0.004, 0.006)}
        steps.append(
            {
                "text": text, "rating": rating, "prm": None if stage == "sft" else prm,
                "rewards": {} if stage == "sft" else reward, "tokens": len(text),
                "advantage": {} if stage == "sft" else {k: v + rng.gauss(0, 0.1) for k, v in reward.items()},
            }
        )  # fmt: skip
    steps[-1]["rewards"] = steps[-1]["rewards"] and steps[-1]["rewards"] | {"outcome": float(not wrong)}
    return {
        "step": step, "stage": stage, "problem": f"test/{problem}",
        "prompt": "; ".join(lines) + f"\nWhat is {name}?",
        "response": " ".join(text for text, _ in texts), "answer": str(value), "correct": not wrong,
        "truncated": problem == 5, "steps": steps,
    }  # fmt: skip


def evaluation(gamed: bool = False) -> dict[str, Any]:
    after = [0.3066, 0.2683, 0.348] if gamed else [0.8164, 0.7806, 0.8475]
    return {
        "problems": 512, "temperature": 1.0, "split": "test", "seed": 11, "seconds": 38.4,
        "rows": {
            "sft": {
                "accuracy": 0.4219, "accuracy_interval": [0.3799, 0.465], "trace_error": 0.2963,
                "trace_error_interval": [0.24, 0.36], "good": 0.643, "neutral": 0.138, "bad": 0.219, "steps": 5.21,
                "tokens": 38.4, "truncated": 0.041,
            },
            "ppo": {
                "accuracy": after[0], "accuracy_interval": after[1:], "trace_error": 0.1124,
                "trace_error_interval": [0.085, 0.147], "good": 0.858, "neutral": 0.079, "bad": 0.063, "steps": 5.58,
                "tokens": 39.7, "truncated": 0.002,
            },
        },
        "prm": {
            "sft": {
                "macro_f1": 0.881, "accuracy": 0.914, "f1": {"bad": 0.90, "neutral": 0.80, "good": 0.943},
                "confusion": [[520, 21, 43], [18, 301, 49], [37, 62, 1617]], "steps": 2668,
            },
            "ppo": {
                "macro_f1": 0.804, "accuracy": 0.931, "f1": {"bad": 0.71, "neutral": 0.74, "good": 0.962},
                "confusion": [[121, 13, 46], [9, 170, 47], [38, 44, 2369]], "steps": 2857,
            },
        },
        "notes": ["The two rows share their problems, so their difference is more certain than the intervals suggest."],
    }  # fmt: skip


def write_held_out(folder: Path, *, stages: tuple[str, ...] = ("sft", "ppo"), known: bool = True) -> Path:
    """The responses of an evaluation, 16 problems a stage; `known`: with exact ratings and P(right) of each step.

    The later stage answers all but problem 1. Of problem 2 the earlier one has a wrong step before a right answer, of
    problem 3 the reward model misjudges a step, of problem 4 the earlier one repeats a step.
    """
    (folder / "responses").mkdir(parents=True, exist_ok=True)
    for stage in stages:
        rows = [_held_out_row(stage, i, known) for i in range(16)]
        (folder / "responses" / f"{stage}-test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def _held_out_row(stage: str, i: int, known: bool) -> dict[str, Any]:
    before = stage == "sft"
    correct = i != 1 if not before else i in (2, 3, 4)
    steps = [f"b={i}+1={i + 1}", HOSTILE if i == 5 else f"c=b+2={i + 3}", f"?{i + 3 if correct else 0}"]
    ratings = [1, 1, 1 if correct else -1]
    if before and i == 2:
        ratings[1] = -1
    if before and i == 4:
        steps.insert(1, steps[0])
        ratings.insert(1, 0)
    prm = [0.97 if rating >= 0 else 0.04 for rating in ratings]
    if i == 3:
        prm[0] = 0.12
    extra: dict[str, Any] = {"stage": stage, "unfinished": i == 6} if i == 6 else {"stage": stage}
    if known:
        extra |= {"step_ratings": ratings, "prm": prm}
    return {
        "id": f"test/{i}/0", "problem": f"a={i};b=a+1;c=b+2;?c", "answer": str(i + 3), "correct": correct,
        "steps": steps, "source": "register_chain", "extra": extra,
    }  # fmt: skip


def write_outcome_only(folder: Path) -> Path:
    """A run with a graded answer as its only reward: no ratings, no reward model."""
    write_held_out(write_gsm8k(folder), known=False)
    found = []
    for step in (1, 60, 120):
        for p in range(4):
            right = p % 2 == 0
            steps = [
                {"text": text, "rating": None, "prm": None, "rewards": {"outcome": float(right and k == 2)},
                 "advantage": {"outcome": 0.5 if right else -0.5}, "tokens": 9}
                for k, text in enumerate(("6*4=24", "24-5=19", "#### 19"))
            ]  # fmt: skip
            found.append(
                {"step": step, "stage": "ppo", "problem": f"train/{p}", "prompt": "6 boxes of 4 …", "response": "…",
                 "answer": "19", "correct": right, "truncated": False, "steps": steps}
            )  # fmt: skip
    (folder / "samples.jsonl").write_text("".join(json.dumps(s) + "\n" for s in found))
    return folder


def write_comparison_of_two(folder: Path) -> Path:
    """The page of a comparison of two runs."""
    from stepjax.report.compare import experiments
    from stepjax.report.compare_page import write_comparison

    runs = [write_held_out(write_workdir(folder / name, gamed=name == "gamed")) for name in ("plain", "gamed")]
    for seed, run in enumerate(runs):
        config = json.loads((run / "config.json").read_text())
        config["ppo"]["kl"] = 0.1 * seed
        (run / "config.json").write_text(json.dumps(config))
    return write_comparison(experiments(runs), folder / "compare.html")

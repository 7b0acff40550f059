"""Answers that the tests of grading share."""

import json
from pathlib import Path

import pytest

from stepjax.answers import math_worker

DATA = Path(__file__).parent.parent / "data"
MATH = [json.loads(line) for line in (DATA / "math" / "math500.jsonl").read_text(encoding="utf-8").split("\n") if line]
needs_math_verify = pytest.mark.skipif(not math_worker.available(), reason="math_verify is not installed")


def equivalent(given: str, expected: str) -> bool:
    return math_worker.equivalent_many([(given, expected)])[0]


HOSTILE = [
    *("9**9**9**9", "9^{9^{9^9}}", "9^9^9^9", "10^{10^{10}}", "1000000000!", "9!!!!!!", r"\binom{10^9}{5\cdot 10^8}"),
    *(r"\sum_{i=1}^{1000000} \frac{1}{i}", r"\int_0^1 e^{x^{x^x}} dx", r"\sin(10^{1000})", "-" * 290 + "5"),
    *("1" * 100_000, "{" * 100_000 + "5" + "}" * 100_000, "(" * 140 + "6" + ")" * 140, "1," * 140, "\\frac" * 50),
    *(r"\sqrt{" * 40 + "2" + "}" * 40, r"\text{" * 40 + "6" + "}" * 40, r"\boxed{" * 50_000, "####" * 50_000, "\ud800"),
    *("__import__('os').system('false')", "import os; os._exit(1)", "\x00", "5" + " " * 200 + "6", "5" + "a b" * 90),
]
ANSWERS = [
    *((r"\boxed{x+1}", "1+x", True), (r"\boxed{x+2}", "1+x", False), ("#### 7", "7", True), ("7", "7", False)),
    *((r"\boxed{\frac{2\sqrt{3}}{6}}", r"\frac{\sqrt3}{3}", True), (r"\boxed{1000!}", "7", False)),
    *((rf"\boxed{{{text}}}", "x-17y", False) for text in HOSTILE),
]

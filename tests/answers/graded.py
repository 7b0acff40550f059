"""Answers that the tests of grading share."""

import json
from pathlib import Path

DATA = Path(__file__).parent.parent / "data"
MATH = [json.loads(line) for line in (DATA / "math" / "math500.jsonl").read_text(encoding="utf-8").split("\n") if line]
HOSTILE = [
    *("9**9**9**9", "9^{9^{9^9}}", "9^9^9^9", "10^{10^{10}}", "1000000000!", "9!!!!!!", r"\binom{10^9}{5\cdot 10^8}"),
    *(r"\sum_{i=1}^{1000000} \frac{1}{i}", r"\int_0^1 e^{x^{x^x}} dx", r"\sin(10^{1000})", "-" * 290 + "5"),
    *("1" * 100_000, "{" * 100_000 + "5" + "}" * 100_000, "(" * 140 + "6" + ")" * 140, "1," * 140, "\\frac" * 50),
    *(r"\sqrt{" * 40 + "2" + "}" * 40, r"\text{" * 40 + "6" + "}" * 40, r"\boxed{" * 50_000, "####" * 50_000, "\ud800"),
    *("__import__('os').system('false')", "import os; os._exit(1)", "\x00", "5" + " " * 200 + "6", "5" + "a b" * 90),
    *(r"\sin" * 70 + "(x)", r"\sin(\cos(" * 30 + "2" + "))" * 30, "2^{" * 11 + "x" + "}" * 11, "x^{x^{x^{x^x}}}"),
    *("(" * 11 + "x+1" + ")^{99}" * 11, "9^{9999}+" * 30 + "1", r"\frac{" * 11 + "1" + "}{3^{99}x+1}" * 11),
    *(r"\sqrt{10^{600}+x}+" * 14 + "1", "|" * 299, "|x+" * 90 + "1" + "|" * 90, "1:" * 140 + "1", "{}" * 150),
    *(",".join(f"x+{i}" for i in range(40)), r"x^{10^{5}}\cdot" * 25 + "x", "0.\\overline{" + "7" * 280 + "}"),
    *("\\{" * 150, "(1," * 70 + "1" + ")" * 70, "x=1," * 60 + "x=2", "a_" * 140, "x'" * 140, r"\pm" * 99 + "3"),
]
ANSWERS = [
    *((r"\boxed{x+1}", "1+x", True), (r"\boxed{x+2}", "1+x", False), ("#### 7", "7", True), ("7", "7", False)),
    *((r"\boxed{\frac{2\sqrt{3}}{6}}", r"\frac{\sqrt3}{3}", True), (r"\boxed{1000!}", "7", False)),
    *((rf"\boxed{{{text}}}", "x-17y", False) for text in HOSTILE),
]

"""A completer of known strength on RegisterChain: a program that errs with a given probability, not a model.

It continues from the statements of a prefix: derives the needed registers that are missing, each falsely with
probability `error`, then answers. An error in the prefix is carried on, so that a right answer after one is luck.
Studies of labels that need long chains, or a strength of their choice, run on it.
"""

import hashlib
import random
from collections.abc import Sequence
from typing import Any

from stepjax.data.framing import Framing
from stepjax.labels.solution import Completion, Prefix, Request
from stepjax.tasks.register_chain import RegisterChain
from stepjax.tasks.register_chain.parser import parse_step
from stepjax.tasks.register_chain.program import apply, parse_program, value_of


class ChainCompleter:
    """Completions of prefixes, as `stepjax.labels.solution.Complete`.

    Attributes:
      error: probability that a derivation is false.
      seed: of the completions.
      sampled: completions so far.
    """

    def __init__(self, task: RegisterChain, tokenizer: Any, *, error: float, seed: int = 0):
        self.task, self.tokenizer, self._framing = task, tokenizer, Framing.of(tokenizer)
        self.error, self.seed = error, seed
        self.sampled = 0

    def __call__(self, requests: Sequence[Request]) -> list[list[Completion]]:
        return [[self._one(r.prefix, r.first + j) for j in range(r.count)] for r in requests]

    def _one(self, prefix: Prefix, number: int) -> Completion:
        self.sampled += 1
        before = self.tokenizer.decode(prefix.tokens, skip_special_tokens=True)
        name = f"{self.seed}|{prefix.problem.prompt}|{before}|{number}"
        uniform = random.Random(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")).random
        steps = self._steps(prefix, before, uniform)
        text = "\n".join(steps)
        start = "\n" if before and not before.endswith("\n") else ""
        tokens = self._framing.response(start + text)
        right = self.task.grade(prefix.problem, before + start + text)
        return Completion(tuple(tokens), True, right)

    def _steps(self, prefix: Prefix, before: str, uniform: Any) -> list[str]:
        modulus = self.task.config.modulus
        program = parse_program(prefix.problem.prompt, modulus)
        held = {s.register: program.values[s.register] for s in program.definitions.values() if not s.operator}
        for step in filter(None, map(parse_step, before.split("\n"))):
            if step.form == "answer":
                return []
            held[step.register] = step.value
        lines = []
        for register, operator, left, right in program.derived(needed=True):
            if register in held:
                continue
            x, y = value_of(left, held), value_of(right, held)
            value = apply(operator, x, y, modulus)
            if uniform() < self.error:
                value = (value + 1 + int(uniform() * (modulus - 1))) % modulus
            held[register] = value
            lines.append(f"{register}={x}{operator}{y}={value}")
        return [*lines, f"?{held[program.query]}"]

"""How busy do slots stay while an environment takes its time? `python docs/slow_environment.py [SECONDS] [SHAPE] [FED]`

A decoder of a shape of `stepjax bench` with random parameters, 16 slots, 96 responses of three turns of 32 tokens; a
reply takes two seconds, or none for comparison. Prints the shares of seconds × slots in which a response drew tokens,
in which it read a reply, and in which others were let in, as long as there are as many responses as slots; the rest is
idle. FED is `environment.fed_tokens`: 0 prefills all again that a response has.
"""

import sys
import time
from types import SimpleNamespace

import jax
import numpy as np

from stepjax.bench.shapes import SHAPES
from stepjax.config import EnvironmentOptions
from stepjax.models import DecoderConfig, Definition, LanguageModel
from stepjax.parallel import key_on, make_mesh
from stepjax.rollout import RolloutShape, Sampler
from stepjax.rollout.talks import Words
from stepjax.rollout.turn_rollout import TurnRollout
from stepjax.tasks import Problem
from stepjax.tasks.environment_pool import EnvironmentPool
from stepjax.tasks.turns import Reply

ROWS, SLOTS, TURNS, TOKENS, REPLY = 96, 16, 3, 32, 4


class Slow:
    """Takes `seconds` for a reply."""

    call = ""

    def __init__(self, seconds: float):
        self.seconds, self.left = seconds, TURNS

    def reset(self, problem: Problem) -> None:
        return None

    def step(self, text: str) -> Reply:
        time.sleep(self.seconds)
        self.left -= 1
        return Reply("ok", done=not self.left)


def measure(seconds: float, shape: str, fed: int) -> dict[str, float]:
    """What the slots were used for, tokens that were prefilled again, the seconds of the rollout, and its steps."""
    s = SHAPES[shape]
    config = DecoderConfig(
        vocab=s.vocab, layers=s.layers, width=s.width, heads=s.heads, kv_heads=s.kv_heads, head_dim=s.head_dim,
        mlp=s.mlp, qkv_bias=s.qkv_bias, tied=s.tied,
    )  # fmt: skip
    policy = Definition(lambda rngs: LanguageModel(config, rngs))
    mesh = make_mesh(1, 1, 1, devices=jax.devices()[:1])
    tokenizer = SimpleNamespace(encode=lambda text, **_: [7] * (REPLY if text else 0))
    words = Words(SimpleNamespace(tokenizer=tokenizer, ends=(-1,), text=lambda ids: ""))  # type: ignore[arg-type]
    options = EnvironmentOptions(name="slow", turn_tokens=TOKENS, calls=ROWS, steps=8, fed_tokens=fed)
    pool = EnvironmentPool("slow_environment:Slow", {"seconds": seconds}, seconds=60.0, calls=ROWS)
    size = RolloutShape(ROWS, 32, TURNS * (TOKENS + REPLY), slots=SLOTS, halvings=0)
    rollout = TurnRollout(policy, mesh, size, options, pool, words, sampler=Sampler(), stops=None)
    prompts = np.random.default_rng(0).integers(3, s.vocab, (ROWS, 32)).tolist()
    problems = [Problem(str(i), "", "") for i in range(ROWS)]
    params = policy.sharded_init(key_on(mesh, 0, 0), mesh)
    found: dict[str, float] = {}
    for count in (1, ROWS):  # the first one compiles
        began = time.perf_counter()
        rows, used = rollout(params, prompts, problems, range(count), key_on(mesh, count, 1), np.arange(count))
        jax.block_until_ready(rows.tokens)
        use = rollout.use
        found = {
            **use.shares,
            "prefilled again": use.prefilled_again,
            "seconds": time.perf_counter() - began,
            "steps": float(used.steps),
        }
    pool.close()
    return found


if __name__ == "__main__":
    arguments = dict(enumerate(sys.argv))
    delay, name, most = float(arguments.get(1, "2")), arguments.get(2, "30m"), int(arguments.get(3, "64"))
    for wait in (delay, 0.0):
        figures = measure(wait, name, most)
        print(f"{name}, {wait:g} s a reply: " + ", ".join(f"{key} {value:.3g}" for key, value in figures.items()))

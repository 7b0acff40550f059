"""The arithmetic of work against the compiler's own count; shapes, lengths and prompts."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models.tiny import CONFIG, policy, policy_params

from stepjax.bench.inputs import line_end, random_lengths, random_tokens
from stepjax.bench.machine import of_public_figures
from stepjax.bench.shapes import NEVER, SHAPES, bench_config, end_ids, not_read
from stepjax.bench.work import Model, Work, pass_work, rollout_work, training_work
from stepjax.config import BenchOptions, Config
from stepjax.errors import UserError
from stepjax.plan.cost import module_cost
from stepjax.plan.hlo_text import parse

MODEL = Model.of(policy(), CONFIG, language=True)


def test_flops_of_a_forward_pass_are_those_that_the_compiler_counts():
    tokens = jnp.ones((3, 24), jnp.int32)
    compiled = jax.jit(lambda p, t: policy().bind(p)(t)).lower(policy_params(), tokens).compile()
    counted = module_cost(parse(compiled.as_text())).flops
    # XLA's attention multiplies above the diagonal, too: n² pairs of tokens, not n (n + 1) / 2.
    above = 4 * CONFIG.layers * CONFIG.heads * CONFIG.head_dim * 3 * (24 * 24 - 24 * 25 / 2)
    assert MODEL.flops([24] * 3, 0, [24] * 3) + above == pytest.approx(counted, rel=0.02)


def test_shares_of_the_makers_figures():
    def device(kind):
        return SimpleNamespace(device_kind=kind)

    work = Work(flops=4 * 989e12, bytes=4 * 4.8e12)
    found = of_public_figures([device("NVIDIA H200")] * 2, work, 5.0)
    assert found["peak_flops"] == 2 * 989e12 and found["peak_bandwidth"] == 2 * 4.8e12
    assert found["peak_flops_share"] == found["peak_bandwidth_share"] == pytest.approx(0.4)
    assert found["predicted_seconds"] == pytest.approx(2 / 0.6)  # products reach 60 % of the peak, copies 80 %
    assert of_public_figures([device("cpu")], work, 5.0) == {}


def test_decoding_costs_what_reading_the_same_tokens_at_once_costs():
    assert MODEL.flops(11) + MODEL.flops(19, 11, 20) == pytest.approx(MODEL.flops(30, 0, 20))
    assert sum(MODEL.flops(1, t) for t in range(30)) == pytest.approx(MODEL.flops(30))


def test_a_rollout_reads_each_prompt_once_and_the_weights_once_a_step():
    one = rollout_work(MODEL, [10], [10], [5], slots=1)
    four = rollout_work(MODEL, [10], [10] * 4, [5] * 4, slots=4)
    weights = MODEL.weights + CONFIG.width * CONFIG.vocab
    kept = 2 * CONFIG.layers * CONFIG.kv_heads * CONFIG.head_dim
    assert four.flops - one.flops == pytest.approx(3 * MODEL.flops(4, 10, 5))
    assert one.bytes == 4 * (6 * weights + kept * (11 + 12 + 13 + 14))
    assert four.bytes == 4 * (6 * weights + 4 * kept * (11 + 12 + 13 + 14))
    half = Model.of(policy(), dataclasses.replace(CONFIG, dtype=jnp.bfloat16), language=True)
    assert rollout_work(half, [10], [10], [5], slots=1).bytes == one.bytes / 2


def test_training_costs_three_forward_passes():
    read, trained = pass_work(MODEL, [4, 4], [3, 9]), training_work(MODEL, [4, 4], [3, 9], updates=2)
    assert trained.flops == 3 * read.flops and read.flops == MODEL.flops([7, 13], 0, [3, 9])
    assert trained.bytes == 2 * 10 * read.bytes
    critic = Model.of(policy(), CONFIG, language=False)
    assert pass_work(critic, [4, 4], [3, 9]).flops == critic.flops([7, 13])


def test_end_ids_make_lengths_of_the_mean_that_was_asked_for():
    assert end_ids(512, 64) == tuple(range(3, 11)) and end_ids(4096, 64) == tuple(range(3, 67))
    assert end_ids(512, 0) == (NEVER,) and len(end_ids(16, 1000)) == 1
    rng = np.random.default_rng(0)
    drawn = random_lengths(rng, 20_000, 64, 10**6)
    assert drawn.mean() == pytest.approx(64, rel=0.05) and drawn.min() == 1
    assert random_lengths(rng, 20_000, 64, 100).max() == 100 and set(random_lengths(rng, 5, 0, 7)) == {7}
    tokens = random_tokens(rng, (50, 400), 512, end_ids(512, 64))
    assert not np.isin(tokens, end_ids(512, 64)).any() and tokens.max() < 512
    assert line_end(512, end_ids(512, 64)) == 10 + 256 and line_end(512, (3,)) == 10 and line_end(8, (3,)) is None
    assert (tokens % 256 == 10).mean() == pytest.approx(1 / 16, abs=0.01)
    assert random_tokens(rng, (9,), 8, (3,)).max() < 8


def test_what_a_benchmark_leaves_out_of_the_rounds_is_said():
    config = Config()
    assert not_read(config, "rollout", config) == []
    asked = dataclasses.replace(config, ppo=dataclasses.replace(config.ppo, slots=4, carry=2))
    assert not_read(asked, "iteration", config) == [
        "config.ppo.slots=4 is not read with shape 1m; see config.slots",
        "rounds are timed without config.ppo.carry=2",
    ]
    own = dataclasses.replace(asked, bench=BenchOptions(shape="own"))
    assert not_read(own, "update", config) == []
    assert not_read(own, "rollout", config) == ["rounds are timed without config.ppo.carry=2"]
    waves = dataclasses.replace(config, ppo=dataclasses.replace(config.ppo, waves=2, halvings=0))
    assert not_read(waves, "iteration", config) == ["rounds are timed without config.ppo.waves=2"]
    assert (bench_config(waves, "rollout").ppo.waves, bench_config(waves, "rollout").ppo.halvings) == (1, 0)


def test_the_workload_is_the_shapes_and_what_the_command_line_says():
    config = dataclasses.replace(Config(), bench=BenchOptions(shape="30m"))
    rollout, update = bench_config(config, "rollout"), bench_config(config, "update")
    assert (rollout.model.layers, rollout.model.vocab, rollout.model.qkv_bias) == (8, SHAPES["30m"].vocab, True)
    assert (rollout.ppo.prompts, rollout.ppo.prompt_tokens, rollout.ppo.max_new_tokens) == (64, 32, 256)
    assert (update.ppo.prompts, update.ppo.max_new_tokens, update.ppo.epochs) == (8, 128, 1)
    own = bench_config(dataclasses.replace(Config(), bench=BenchOptions(shape="own", dtype="bfloat16")), "update")
    assert own.ppo == Config().ppo and own.model == dataclasses.replace(Config().model, dtype="bfloat16")
    asked = dataclasses.replace(config, bench=BenchOptions(rows=12, samples=4, prompt_tokens=9, new_tokens=7))
    assert (bench_config(asked, "score").ppo.prompts, bench_config(asked, "score").ppo.samples) == (3, 4)
    wrong = dataclasses.replace(config, bench=BenchOptions(rows=12, samples=5))
    with pytest.raises(UserError, match=r"config\.samples: 5"):
        bench_config(wrong, "score")

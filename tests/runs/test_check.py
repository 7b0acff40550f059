"""Options that contradict each other are refused in one line."""

import dataclasses
import types

import jax
import numpy as np
import pytest

from stepjax.config import Config, LoRAOptions, PPOOptions, StreamOptions
from stepjax.config.ppo import MonteCarloOptions
from stepjax.config.step_judge import StepJudgeOptions
from stepjax.errors import UserError
from stepjax.options import parse
from stepjax.parallel import MESH_AXES, make_mesh, mesh_of
from stepjax.runs.check import check_lora, check_options

WITHOUT_CRITIC = {"process": StreamOptions(critic=False)}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kl_target": 0.01}, "kl: kl_target adapts it by factors, so it must start above 0"),
        ({"critic_warmup": 3, "critic_frozen": True}, "critic_warmup: 3 rounds would train nothing: critic_frozen"),
        ({"critic_warmup": 3, "streams": WITHOUT_CRITIC}, "critic_warmup: 3 rounds would train nothing: no stream"),
        ({"ratio_guard": 0.5}, "ratio_guard: must be above 1"),
        ({"mean_ratio_guard": 1.0}, "mean_ratio_guard: must be above 1"),
        ({"min_new_tokens": 80}, "min_new_tokens: 80 must be below max_new_tokens=80"),
        (
            {"streams": {"mine": StreamOptions(signal="outcom")}},
            r"streams\.mine\.signal: no signal 'outcom' .did you mean 'outcome'",
        ),
        ({"streams": {}}, "streams: name at least one reward stream"),
        ({"mc": MonteCarloOptions(completions=3)}, "mc.completions: no stream has signal=mc, so that nothing would"),
        (
            {"judge": StepJudgeOptions(url="http://a/v1"), "streams": {"mc": StreamOptions(signal="mc")}},
            "judge.url: no stream has signal=judge, so that nothing would read it",
        ),
    ],
)
def test_what_contradicts_is_refused(changes, said):
    config = dataclasses.replace(Config(), ppo=PPOOptions(**changes))
    with pytest.raises(UserError, match=rf"^config\.ppo\.{said}"):
        check_options(config, make_mesh(1, 1, 1))


def test_what_fits_is_not():
    ppo = PPOOptions(kl=0.1, kl_target=0.01, critic_warmup=3, ratio_guard=10.0, mean_ratio_guard=1.5, kl_stop=0.1)
    check_options(dataclasses.replace(Config(), ppo=ppo), make_mesh(1, 1, 1))
    read = PPOOptions(mc=MonteCarloOptions(completions=3), streams={"mc": StreamOptions(signal="mc")})
    check_options(dataclasses.replace(Config(), ppo=read), make_mesh(1, 1, 1))


def test_a_cache_that_holds_a_round_but_not_what_goes_on_beside_it_is_refused():
    # 8 problems of 4 full blocks (39 of 40 tokens are before the last), and 3 for the longest response: 35 × 8 tokens.
    sizes = {"prompts": 8, "samples": 2, "prompt_tokens": 40, "max_new_tokens": 24, "block": 8, "importance_cap": 2.0}
    for carry, least in ((0, 35 * 8), (1, 51 * 8)):  # half as many problems more
        for tokens in (35 * 8 - 1, least - 1, least):
            ppo = PPOOptions(carry=carry, cache_tokens=tokens, **sizes)
            config = dataclasses.replace(Config(), ppo=ppo)
            if tokens == least:
                check_options(config, make_mesh(1, 1, 1))
                continue
            with pytest.raises(UserError, match=rf"^config\.ppo\.cache_tokens: .* give at least {least}"):
                check_options(config, make_mesh(1, 1, 1))


@pytest.mark.parametrize("devices", [1, 8])
def test_a_config_over_all_devices_fits_one_and_many(devices):
    config, _ = parse(["--config=gsm8k_qwen05b"])
    check_options(config, mesh_of(config.mesh, devices=jax.devices()[:devices]))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            ("sft.row_tokens=500",),
            r"sft\.row_tokens: rows of 500 tokens are not cut into 2 × mesh\.context = 8 chunks; use 504",
        ),
        (("prm.rows=3",), r"prm\.rows: 3 rows do not divide over the mesh's data × fsdp = 2 devices"),
        (("improve.rows=3", "stages=('improve',)"), r"improve\.rows: 3 rows do not divide over the mesh's data × fsdp"),
        (("ppo.prompts=4",), r"ppo: prompts × samples: 4 rows do not divide over the mesh's data × fsdp × context = 8"),
    ],
)
def test_rows_that_are_cut_must_divide(changes, said):
    sized = ("sft.rows=2", "prm.rows=2", "sft.row_tokens=512", "prm.row_tokens=512", "mesh.fsdp=2", "mesh.context=4")
    config, _ = parse([f"--config.{x}" for x in (*sized, *changes)])
    with pytest.raises(UserError, match=rf"^config\.{said}"):
        check_options(config, mesh_of(config.mesh))


@pytest.mark.parametrize(("chips", "devices"), [("v5p", 64), ("v5e", 256)])
def test_long_rows_of_7b_divide_over_their_chips(chips, devices):
    config, _ = parse([f"--config=math_7b_long:{chips}"])
    sizes = {axis: getattr(config.mesh, axis) for axis in MESH_AXES}
    mesh = types.SimpleNamespace(shape=sizes, devices=np.array([types.SimpleNamespace(platform="tpu")]))
    check_options(config, mesh)
    assert np.prod(list(sizes.values())) == devices and sizes["context"] > 1 and config.ppo.row_tokens == 32_768


@pytest.mark.parametrize(
    ("stages", "fits"),
    [
        (("prm", "ppo"), True),
        (("prm", "improve", "ppo"), True),
        (("sft", "prm", "improve", "ppo"), True),
        (("improve",), False),
        (("sft", "improve"), False),
        (("prm", "other"), False),
    ],
)
def test_stages_with_adapters(stages, fits):
    config = dataclasses.replace(Config(), lora=LoRAOptions(rank=2, stages=stages))
    if fits:
        check_lora(config)
        return
    with pytest.raises(UserError, match=r"^config\.lora\.stages: must be ppo, or prm and ppo, or sft, prm and ppo"):
        check_lora(config)

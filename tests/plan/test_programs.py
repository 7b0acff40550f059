"""What the plan counts of a run's own programs, against arithmetic; and what their compiled text must not hold."""

import math

import jax
import pytest
from plan.planned import LAYERS, NEW, PROMPT, ROWS, VOCAB, Compiled, compile_programs, config_of

from stepjax.models import read_positions
from stepjax.models.flops import TRAINING, forward_flops
from stepjax.parallel import make_mesh
from stepjax.plan.cost import module_cost
from stepjax.plan.surroundings import planned_programs, planned_run, resident_bytes

DEVICES, SFT_ROWS, SFT_WIDTH = 8, 8, 256


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    config = config_of(tmp_path_factory.mktemp("plan"))
    return compile_programs(config, jax.devices()[:DEVICES], "sft_update", "score", "update")


def check_training_flops(run, found: dict[str, Compiled], *, attended: float, within: float) -> None:
    """Updates against 6 × parameters × tokens + attention. `attended`: the share of a row's token pairs that the
    attention computes: XLA's all of them, a kernel's blocks about half."""
    pairs = SFT_ROWS * SFT_WIDTH**2 * attended
    sft = TRAINING * forward_flops(run.policy, tokens=SFT_ROWS * SFT_WIDTH, pairs=pairs)
    assert found["sft_update"].cost.flops * DEVICES == pytest.approx(sft, rel=within)
    width = PROMPT + NEW
    update = sum(
        TRAINING * forward_flops(role, tokens=ROWS * width, pairs=ROWS * width**2 * attended)
        for role in (run.policy, run.critic)
    )
    assert found["update"].cost.flops * DEVICES == pytest.approx(update, rel=within)


def check_state_bytes(found: dict[str, Compiled]) -> None:
    """Arguments are the parameters, two moments and the rows: the compiler's figure against arithmetic."""
    for name in ("sft_update", "update"):
        state, *rows = found[name].planned.program.inputs
        roles = [r for r in state.values() if isinstance(r, dict)] if name == "update" else [state]
        params = sum(resident_bytes(r["params"]) for r in roles)
        assert resident_bytes(state) == pytest.approx(3 * params, rel=0.02), "AdamW's two moments"
        size = found[name].memory.argument_size_in_bytes
        # An argument that is not read is left out.
        assert resident_bytes(state) * 0.98 < size < (resident_bytes(state) + resident_bytes(rows)) * 1.02


def check_nothing_gathered(run, found: dict[str, Compiled]) -> None:
    """No collective makes more than one layer of a parameter whole, and no [B, T, V] exists, not even a device's part
    of it. The number of layers and the width are none of the other sizes: what has both a vocabulary and a width is the
    embedding, or pieces of it."""
    tensor, width = run.mesh.shape["tensor"], run.decoder.width
    width_of_rows = PROMPT + NEW
    tokens_of = {"sft_update": SFT_ROWS * SFT_WIDTH, "score": ROWS * width_of_rows, "update": ROWS // 2 * width_of_rows}
    for name, tokens in tokens_of.items():
        turns = found[name].planned.turns if name != "sft_update" else 1
        logits = tokens * VOCAB / DEVICES / turns
        gathers, widest = 0, 0
        for computation in found[name].module.computations.values():
            for i in computation.instructions.values():
                for a in i.arrays:
                    if i.opcode.startswith("all-gather"):
                        gathers += 1
                        assert LAYERS not in a.dims, (name, i.name, a)
                    table = {width, width // run.mesh.shape["fsdp"]} & set(a.dims)
                    if {VOCAB, VOCAB // tensor} & set(a.dims) and not table:
                        widest = max(widest, math.prod(a.dims))
        assert gathers, "a test that sees no gather proves nothing"
        assert 0 < widest < logits, (name, widest, logits)


def test_flops_of_updates_are_those_of_arithmetic(planned):
    check_training_flops(*planned, attended=1.0, within=0.1)
    found = planned[1]
    assert found["update"].planned.turns > 1
    assert found["update"].cost.guessed == 3, "loops over micro-batches and, in both passes, positions that are read"
    assert found["sft_update"].planned.turns > 1
    assert found["sft_update"].cost.guessed == 2, "positions that are read, in both passes"


def test_state_takes_the_bytes_of_arithmetic(planned):
    check_state_bytes(planned[1])


def test_neither_whole_parameters_nor_logits_are_gathered(planned):
    check_nothing_gathered(*planned)


def test_a_rollout_gathers_parameters_once(tmp_path):
    """What a step of the decode loop sends grows with the steps; parameters, gathered before it, do not."""
    sent = {}
    for gather in (True, False):
        config = config_of(tmp_path, f"mesh.gather_to_decode={gather}", "model.decode_layers=scanned")
        run, found = compile_programs(config, jax.devices()[:DEVICES], "rollout")
        whole, once = (
            module_cost(found["rollout"].module, unknown_trips=turns, in_turn=True).collectives["all-gather"].bytes
            for turns in (NEW, 0)
        )
        sent[gather] = (whole - once) / NEW, once
    layers = sum(leaf.size for leaf in jax.tree.leaves(run.policy.shapes["trunk"]["layers"]))
    tensor, fsdp = run.mesh.shape["tensor"], run.mesh.shape["fsdp"]
    of_others = layers * 4 / tensor * (fsdp - 1) / fsdp
    assert sent[False][0] > 0.9 * of_others, "the layers, at every step"
    assert sent[True][0] < 0.1 * of_others and sent[True][1] > 0.9 * of_others, "once"


def test_what_lies_beside_a_program(planned):
    """A program's arguments and what lies beside it are always the same whole: all that a run holds."""
    found = planned[1]
    update = found["update"].planned
    state = resident_bytes(update.program.inputs[0])
    policy = resident_bytes(update.program.inputs[0]["policy"]["params"])
    score_model = resident_bytes(update.program.inputs[0]["critic"]["params"])
    # Beside the update: the reference policy, and the process reward model.
    assert update.beside == pytest.approx(policy + score_model, rel=0.01)
    assert update.beside < state


def test_adapters_share_their_base(tmp_path):
    """With adapters the policy's and critic's other parameters are the reference's own: they lie there once."""
    config = config_of(tmp_path, "lora.rank=4", "lora.stages=('ppo',)")
    run = planned_run(config, make_mesh(2, 2, 2, devices=jax.devices()[:DEVICES]))
    found = {p.program.name: p for p in planned_programs(run) if p.stage == "ppo"}
    policy, reference, critic, prm = (resident_bytes(x) for x in found["score"].program.inputs[:4])
    state, frozen = (resident_bytes(found["update"].program.inputs[i]) for i in (0, 4))
    held = state + reference + prm
    assert found["credit"].beside == held
    assert found["score"].beside == held - (policy + reference + critic + prm) < 0
    assert found["update"].beside == held - state - frozen
    assert held < policy + reference + prm, "trained adapters and their moments are smaller than a base"


@pytest.mark.slow
@pytest.mark.usefixtures("libtpu")
def test_programs_compiled_for_a_tpu(tmp_path, monkeypatch):
    monkeypatch.setattr(read_positions, "LOGIT_BYTES", 0)  # these logits would fit in one chunk
    from stepjax.chips import open_topology

    # Sizes of whole tiles, so that bytes are those of arithmetic.
    sizes = ("model.width=768", "model.mlp=1024", "model.head_dim=128", "model.tied=True")
    config = config_of(tmp_path, "model.dtype=bfloat16", "model.remat=True", *sizes)
    run, found = compile_programs(config, open_topology("v5e:4x2").devices, "sft_update", "score", "update")
    assert run.decoder.attention == "splash"
    # With remat a layer's forward pass is done twice: 8 for 6 × parameters × tokens, and whole blocks of attention.
    forward = forward_flops(run.policy, tokens=SFT_ROWS * SFT_WIDTH, pairs=SFT_ROWS * SFT_WIDTH**2)
    assert 3 * forward * 0.9 < found["sft_update"].cost.flops * DEVICES < 4.7 * forward
    assert found["sft_update"].cost.opaque == 0
    check_state_bytes(found)
    check_nothing_gathered(run, found)


def test_expert_iteration_is_planned_with_its_reference(tmp_path):
    """Its update of all rounds; with a KL term the first policy's parameters are an argument."""
    config = config_of(tmp_path, "stages=('improve',)", "improve.rounds=3", "improve.updates=50", "improve.kl=0.1")
    (found,) = planned_programs(planned_run(config, make_mesh(devices=jax.devices()[:1])))
    state, batch, reference = found.program.inputs
    assert (found.stage, found.runs, found.program.name) == ("improve", 150, "improve_update")
    assert resident_bytes(reference) == resident_bytes(state["params"]) and "values" in batch

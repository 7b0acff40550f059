"""Low-rank adapters: what they add, what is trained and saved of a model, and PEFT's format both ways."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models.tiny import CONFIG, random_params

from stepjax.config import OptimizerOptions
from stepjax.errors import UserError
from stepjax.learners.optimizers import abstract_state, make_optimizer
from stepjax.models import Definition, LanguageModel, ScoreModel, StepReader
from stepjax.models.families import FAMILIES
from stepjax.models.lora import LoRA, is_adapter, merge
from stepjax.models.peft_adapter import load_adapter, open_adapter, save_adapter
from stepjax.models.trainable import Trainable, adapters_and_heads, join, split, without_adapters
from stepjax.parallel import make_mesh

LORA = LoRA(3, 6.0)
ADAPTED = dataclasses.replace(CONFIG, qk_norm=False, lora=LORA)
PLAIN = dataclasses.replace(ADAPTED, lora=None)
TOKENS = np.random.default_rng(0).integers(0, CONFIG.vocab, (2, 12)).astype(np.int32)


@functools.cache
def model(config=ADAPTED):
    return Definition(lambda rngs: LanguageModel(config, rngs))


@functools.cache
def params():
    return random_params(model(), 5)


@functools.cache
def run(config):
    return jax.jit(lambda p, tokens: model(config).bind(p)(tokens))


def one_device():
    return make_mesh(1, 1, 1, devices=jax.devices()[:1])


def paths(tree):
    return {tuple(k.key for k in path) for path, _ in jax.tree.leaves_with_path(tree)}


def test_an_adapter_adds_the_scaled_product_to_its_weight():
    weights = params()["trunk"]["layers"]
    merged = merge(params(), LORA)
    assert not any(is_adapter(path) for path in paths(merged))
    for name, ins in (("query", 1), ("value", 1), ("output", 2), ("gate", 1), ("down", 1)):
        w, a, b = (np.asarray(weights[n], np.float64) for n in (name, f"{name}_lora_a", f"{name}_lora_b"))
        for i, found in enumerate(merged["trunk"]["layers"][name]):
            product = a[i].reshape(-1, 3) @ b[i].reshape(3, -1) * (6.0 / 3)
            assert a[i].shape[:-1] == w[i].shape[:ins] and b[i].shape[1:] == w[i].shape[ins:]
            np.testing.assert_allclose(found, w[i] + product.reshape(w[i].shape), atol=1e-5)


def test_merged_and_adapted_models_agree():
    adapted = run(ADAPTED)(params(), TOKENS)
    merged = run(PLAIN)(merge(params(), LORA), TOKENS)
    assert float(jnp.abs(adapted - run(PLAIN)(split(params(), without_adapters)[0], TOKENS)).max()) > 0.1
    np.testing.assert_allclose(adapted, merged, atol=2e-4 * float(jnp.abs(merged).max()))


def test_fresh_adapters_change_nothing():
    mesh = one_device()
    fresh = model().sharded_init(jax.random.key(0), mesh)
    layers = fresh["trunk"]["layers"]
    assert not np.asarray(layers["up_lora_b"]).any() and np.asarray(layers["up_lora_a"]).std() > 0.05
    plain = split(fresh, without_adapters)[0]
    np.testing.assert_array_equal(run(ADAPTED)(fresh, TOKENS), run(PLAIN)(plain, TOKENS))


def test_no_adapters_leave_the_program_as_it_was():
    """Rank 0 is the same computation, not one with empty products."""
    plain, adapted = (
        run(config).lower(model(config).shapes, TOKENS).as_text().count("dot_general") for config in (PLAIN, ADAPTED)
    )
    assert adapted == plain + 2 * len(LORA.modules)


@pytest.mark.parametrize("kind", ["policy", "score", "reader"])
def test_adapters_and_heads_alone_are_trained(kind):
    definition = {
        "policy": model(),
        "score": Definition(lambda rngs: ScoreModel(ADAPTED, 2, rngs)),
        "reader": Definition(lambda rngs: StepReader(ADAPTED, 1, 3, rngs)),
    }[kind]
    trainable = Trainable(definition, adapters_and_heads)
    ours, rest = paths(trainable.shapes), paths(trainable.frozen_shapes)
    assert ours | rest == paths(definition.shapes) and not ours & rest
    assert {p for p in ours if is_adapter(p)} == {p for p in paths(definition.shapes) if is_adapter(p)}
    heads = {p for p in ours if not is_adapter(p)}
    assert {p[-1] for p in heads} >= ({"head", "bias"} if kind != "policy" else set())
    assert not any("trunk" in p for p in heads) and ("unembedding",) not in heads
    assert all("trunk" in p or p[-1] == "unembedding" for p in rest)


def test_join_is_the_inverse_of_split():
    ours, rest = split(params(), adapters_and_heads)
    again = join(ours, rest)
    assert jax.tree.structure(again) == jax.tree.structure(params())
    assert all(a is b for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(params()), strict=True))


def test_optimiser_state_is_that_of_the_adapters():
    """Moments of a Qwen2-0.5B-shaped policy at rank 16: two float32 numbers a trained parameter."""
    shape = {"vocab": 151936, "layers": 24, "width": 896, "heads": 14, "kv_heads": 2, "head_dim": 64, "mlp": 4864}
    big = dataclasses.replace(PLAIN, tied=True, param_dtype=jnp.bfloat16, **shape)
    optimizer = make_optimizer(OptimizerOptions(), 10)
    mesh = one_device()

    def size(tree):
        return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))

    whole = abstract_state(Trainable(model(big)), optimizer, mesh)
    trainable = Trainable(model(dataclasses.replace(big, lora=LoRA(16, 32.0))), adapters_and_heads)
    adapted = abstract_state(trainable, optimizer, mesh)
    assert size(whole["optimizer"]) == pytest.approx(8 * 494e6, rel=0.01)
    trained = sum(x.size for x in jax.tree.leaves(adapted["params"]))
    # A and B of the seven projections of 24 layers: 16 × (in + out) each.
    ins_outs = (896 + 896) + 2 * (896 + 128) + (896 + 896) + 3 * (896 + 4864)
    assert trained == 24 * 16 * ins_outs
    assert size(adapted["optimizer"]) == pytest.approx(8 * trained, rel=1e-3)
    assert size(adapted["optimizer"]) < size(whole["optimizer"]) / 50


def test_sharded_is_unsharded():
    mesh = make_mesh(1, 4, 2)
    placed = jax.device_put(params(), model().shardings(mesh))
    b = placed["trunk"]["layers"]["gate_lora_b"]
    assert b.addressable_shards[0].data.shape[-1] == CONFIG.mlp // 2  # the tensor axis has its columns
    with jax.set_mesh(mesh):
        sharded = jax.jit(lambda p, t: model().bind(p)(t))(placed, TOKENS)
    np.testing.assert_allclose(sharded, run(ADAPTED)(params(), TOKENS), atol=1e-4)


def test_gradients_reach_adapters_as_finite_differences_say():
    ours, rest = split(params(), is_adapter)

    @jax.jit
    def loss(ours):
        return jnp.sum(jax.nn.log_softmax(model().bind(join(ours, rest))(TOKENS))[..., 0])

    gradient = jax.grad(loss)(ours)
    assert paths(gradient) == paths(ours)
    rng = np.random.default_rng(3)
    way = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), ours)
    h = 1e-3
    ahead, behind = (loss(jax.tree.map(lambda x, w: x + s * h * w, ours, way)) for s in (1, -1))  # noqa: B023
    slope = sum(jnp.vdot(g, w) for g, w in zip(jax.tree.leaves(gradient), jax.tree.leaves(way), strict=True))
    assert float(ahead - behind) / (2 * h) == pytest.approx(float(slope), rel=2e-2)


def test_adapter_files_come_back_bit_by_bit(tmp_path):
    mesh = one_device()
    save_adapter(tmp_path, params(), LORA, FAMILIES["qwen2"], mesh, base="some/model")
    found = load_adapter(tmp_path, model(), LORA, FAMILIES["qwen2"], make_mesh(1, 4, 2))
    ours = split(params(), is_adapter)[0]
    assert jax.tree.structure(found) == jax.tree.structure(ours)
    jax.tree.map(np.testing.assert_array_equal, found, ours)
    assert open_adapter(tmp_path, FAMILIES["qwen2"])[1] == LORA


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("peft_type", "LOHA", "peft_type=LOHA is not supported"),
        ("use_dora", True, "use_dora=True is not supported"),
        ("modules_to_save", ["lm_head"], "modules_to_save"),
        ("r", "8", "r must be a positive number"),
        ("r", 4, "rank 4"),
    ],
)
def test_an_adapter_of_another_kind_is_named(tmp_path, field, value, words):
    mesh = one_device()
    save_adapter(tmp_path, params(), LORA, FAMILIES["qwen2"], mesh)
    config = json.loads((tmp_path / "adapter_config.json").read_text()) | {field: value}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=words):
        load_adapter(tmp_path, model(), LORA, FAMILIES["qwen2"], mesh)


def test_peft_and_stepjax_give_the_same_logits(tmp_path):
    """An adapter made in torch, read here; one written here, loaded by PEFT."""
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    from stepjax.models import load_pretrained

    torch.manual_seed(0)
    config = transformers.Qwen2Config(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=False,
    )  # fmt: skip
    base = transformers.Qwen2ForCausalLM(config).eval().float()
    base.save_pretrained(tmp_path / "base")
    wrapped = peft.get_peft_model(
        base, peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "o_proj", "down_proj"])
    )
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, 0.3)
    wrapped.eval().save_pretrained(tmp_path / "adapter")
    ids = torch.tensor(np.random.default_rng(1).integers(0, 64, (2, 9)))
    with torch.no_grad():
        expected = wrapped(input_ids=ids).logits.numpy()

    loaded = load_pretrained(tmp_path / "base")
    family, mesh = FAMILIES["qwen2"], loaded.mesh
    _, lora = open_adapter(tmp_path / "adapter", family)
    assert lora == LoRA(4, 8.0, ("query", "value", "output", "down"))
    definition = model(dataclasses.replace(loaded.config, lora=lora))
    whole = join(loaded.params, load_adapter(tmp_path / "adapter", definition, lora, family, mesh))
    found = jax.jit(lambda p, t: definition.bind(p)(t))(whole, jnp.asarray(ids.numpy(), jnp.int32))
    assert np.abs(expected - np.asarray(loaded(ids.numpy()))).max() > 0.1 * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())

    # The other way: changed here, written, loaded by PEFT.
    changed = jax.tree.map_with_path(lambda p, x: x * 1.5 if is_adapter(tuple(k.key for k in p)) else x, whole)
    save_adapter(tmp_path / "ours", changed, lora, family, mesh)
    plain = transformers.Qwen2ForCausalLM.from_pretrained(tmp_path / "base").eval().float()
    again = peft.PeftModel.from_pretrained(plain, tmp_path / "ours").eval()
    with torch.no_grad():
        theirs = again(input_ids=ids).logits.numpy()
        merged_theirs = again.merge_and_unload()(input_ids=ids).logits.numpy()
    ours = jax.jit(lambda p, t: definition.bind(p)(t))(changed, jnp.asarray(ids.numpy(), jnp.int32))
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())
    merged = dataclasses.replace(loaded, params=merge(changed, lora))(ids.numpy())
    np.testing.assert_allclose(merged, merged_theirs, atol=1e-4 * np.abs(theirs).max())

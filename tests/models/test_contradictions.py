"""Checkpoints that contradict themselves: loaded as transformers loads them, or refused in one line, never silently."""

import json

import jax
import numpy as np
import pytest
from models.family_cases import CASES, draw, tensor_shapes, tokens

from stepjax.errors import UserError
from stepjax.models import load_pretrained, save_pretrained
from stepjax.models.safetensors_file import write_file

TIED, UNTIED = CASES["qwen3-window"], CASES["llama-biases"]
EMBEDDING, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"


def tensors_of(case):
    return {name: draw(name, shape, case) for name, shape in tensor_shapes(case).items()}


def write(folder, case, *files, listed=None):
    """A checkpoint of one file, or of several with an index that lists all of their tensors, or `listed`."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(case))
    names = [f"model-{i}.safetensors" for i in range(len(files))] if len(files) > 1 else ["model.safetensors"]
    for name, tensors in zip(names, files, strict=True):
        write_file(folder / name, {n: (x.shape, x.dtype) for n, x in tensors.items()}, tensors.values())
    if len(files) > 1:
        places = {n: name for name, tensors in zip(names, files, strict=True) for n in tensors}
        places = places if listed is None else {n: places[n] for n in listed}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


def halves(tensors):
    names = sorted(tensors)
    return [{n: tensors[n] for n in part} for part in (names[::2], names[1::2])]


def renamed(tensors, change):
    return {change(name): x for name, x in tensors.items()}


def other_output(case, scale=1.0):
    """The tensors of a tied case, with an output embedding of its own."""
    tensors = tensors_of(case)
    return tensors | {OUTPUT: (scale * draw("another", tensors[EMBEDDING].shape, case)).astype(np.float32)}


def stale(folder):
    """An index that names shards which are not there, beside a whole file."""
    write(folder, TIED, tensors_of(TIED))
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"model.norm.weight": "model-9.safetensors"}}')
    return folder


ROPE = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
GEMMA = {k: v for k, v in CASES["gemma3-nested"].items() if k != "rope_parameters"}
BASES = {"full_attention": 300.0, "sliding_attention": 20.0}
NESTED = {"full_attention": {"rope_type": "default"}, "sliding_attention": {"rope_type": "default"}}

LOADED = {
    # A tied configuration with an output embedding of other numbers: not tied.
    "untied": (
        lambda folder: write(folder, TIED, other_output(TIED)),
        lambda folder: write(folder, {**TIED, "tie_word_embeddings": False}, other_output(TIED)),
    ),
    "untied in one row": (
        lambda folder: write(folder, TIED, one_row(TIED)),
        lambda folder: write(folder, {**TIED, "tie_word_embeddings": False}, one_row(TIED)),
    ),
    "stored twice": (
        lambda folder: write(folder, TIED, {**tensors_of(TIED), OUTPUT: tensors_of(TIED)[EMBEDDING]}),
        lambda folder: write(folder, TIED, tensors_of(TIED)),
    ),
    "stored under the other name": (
        lambda folder: write(
            folder, TIED, renamed(tensors_of(TIED), lambda name: OUTPUT if name == EMBEDDING else name)
        ),
        lambda folder: write(folder, TIED, tensors_of(TIED)),
    ),
    "a model without a head": (
        lambda folder: write(folder, TIED, renamed(tensors_of(TIED), lambda name: name.removeprefix("model."))),
        lambda folder: write(folder, TIED, tensors_of(TIED)),
    ),
    "a prefix twice": (
        lambda folder: write(folder, UNTIED, renamed(tensors_of(UNTIED), lambda name: f"model.{name}")),
        lambda folder: write(folder, UNTIED, tensors_of(UNTIED)),
    ),
    "frequencies of old software": (
        lambda folder: write(
            folder,
            TIED,
            tensors_of(TIED) | {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(4, np.float32)},
        ),
        lambda folder: write(folder, TIED, tensors_of(TIED)),
    ),
    "a tensor that the index does not list": (
        lambda folder: write(folder, TIED, *halves(other_output(TIED)), listed=list(tensors_of(TIED))),
        lambda folder: write(folder, {**TIED, "tie_word_embeddings": False}, other_output(TIED)),
    ),
    "an old index beside the file": (stale, lambda folder: write(folder, TIED, tensors_of(TIED))),
    "a context named twice": (
        lambda folder: write(
            folder,
            {**UNTIED, "rope_scaling": ROPE, "original_max_position_embeddings": 8},
            tensors_of(UNTIED),
        ),
        lambda folder: write(
            folder, {**UNTIED, "rope_scaling": {**ROPE, "original_max_position_embeddings": 8}}, tensors_of(UNTIED)
        ),
    ),
    "a base beside the ropes of each kind": (
        lambda folder: write(
            folder,
            {**GEMMA, "rope_parameters": NESTED, "rope_theta": 300.0, "rope_local_base_freq": 20.0},
            tensors_of(GEMMA),
        ),
        lambda folder: write(
            folder,
            {**GEMMA, "rope_parameters": {k: {**NESTED[k], "rope_theta": BASES[k]} for k in NESTED}},
            tensors_of(GEMMA),
        ),
    ),
    "a scaling in both spellings": (
        lambda folder: write(
            folder,
            {**GEMMA, "rope_parameters": NESTED, "rope_scaling": {"rope_type": "linear", "factor": 4.0}},
            tensors_of(GEMMA),
        ),
        lambda folder: write(
            folder, {**GEMMA, "rope_scaling": {"rope_type": "linear", "factor": 4.0}}, tensors_of(GEMMA)
        ),
    ),
}  # fmt: skip
"""A checkpoint, and one that says the same without the contradiction."""


def one_row(case):
    tensors = tensors_of(case)
    output = tensors[EMBEDDING].copy()
    output[-1, -1] += 0.5
    return tensors | {OUTPUT: output}


def same(a, b):
    """The same function: one decoder, and the same numbers in each parameter."""
    assert a.config == b.config
    jax.tree.map(np.testing.assert_array_equal, a.params, b.params)


@pytest.mark.parametrize("what", LOADED)
def test_it_is_loaded_as_what_it_holds(what, tmp_path, capsys):
    odd, plain = (make(tmp_path / name) for name, make in zip(("odd", "plain"), LOADED[what], strict=True))
    found = load_pretrained(odd)
    said = capsys.readouterr()
    same(found, load_pretrained(plain))
    untied = "untied" in what or "does not list" in what
    assert said.err.count("they are not tied") == untied and not said.out


@pytest.mark.parametrize("what", LOADED)
def test_it_is_loaded_as_transformers_does(what, tmp_path):
    pytest.importorskip("torch")
    from models import torch_reference

    folder = LOADED[what][0](tmp_path / "odd")
    ours, model = np.asarray(load_pretrained(folder)(tokens())), torch_reference.load(folder)
    for row, theirs in zip(ours, torch_reference.alone(model), strict=True):
        np.testing.assert_allclose(row[: len(theirs)], theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())


def test_a_model_that_was_untied_is_saved_untied(tmp_path):
    model = load_pretrained(write(tmp_path / "in", TIED, other_output(TIED)))
    save_pretrained(model, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is False
    same(load_pretrained(tmp_path / "out"), model)


def without(tensors, *names):
    return {name: x for name, x in tensors.items() if name not in names}


def more(tensors, name, *shape):
    return tensors | {name: np.zeros(shape, np.float32)}


def wrapped(tensors, prefix):
    return renamed(tensors, lambda name: prefix + name)


BIAS = "model.layers.0.self_attn.q_proj.bias"
LAST = "model.layers.1.mlp.down_proj.bias"

REFUSED = {
    "a bias that the config denies": (
        lambda f: write(f, {**UNTIED, "mlp_bias": False}, tensors_of(UNTIED)),
        "bias has no place in the model that config.json describes, and neither have model.layers.",
    ),
    "more layers than the config": (
        lambda f: write(f, {**UNTIED, "num_hidden_layers": 1}, tensors_of(UNTIED)),
        "tensor model.layers.1.",
    ),
    "another head": (
        lambda f: write(f, TIED, more(tensors_of(TIED), "score.weight", 1, 28)),
        "tensor score.weight has no place",
    ),
    "scales of quantised weights": (
        lambda f: write(f, TIED, more(tensors_of(TIED), "model.layers.0.mlp.up_proj.weight_scale", 1)),
        "tensor model.layers.0.mlp.up_proj.weight_scale has no place",
    ),
    "a bias that is missing": (
        lambda f: write(f, UNTIED, without(tensors_of(UNTIED), BIAS, LAST)),
        f"tensor {BIAS} is missing, and so are {LAST}",
    ),
    "no output embedding": (
        lambda f: write(f, UNTIED, without(tensors_of(UNTIED), OUTPUT)),
        "tensor lm_head.weight is missing: config.json unties the embeddings (tie_word_embeddings)",
    ),
    "an untied model without a head": (
        lambda f: write(f, UNTIED, renamed(without(tensors_of(UNTIED), OUTPUT), lambda n: n.removeprefix("model."))),
        "tensor lm_head.weight is missing: config.json unties the embeddings",
    ),
    "a part of another model": (
        lambda f: write(f, TIED, wrapped(tensors_of(TIED), "language_model.")),
        f"but language_model.{EMBEDDING} is there; write the language model alone",
    ),
    "a part of another model, its own way": (
        lambda f: write(f, TIED, renamed(tensors_of(TIED), lambda n: n.replace("model.", "model.language_model.", 1))),
        "but model.language_model.embed_tokens.weight is there; write the language model alone",
    ),
    "one tensor under two names": (
        lambda f: write(f, TIED, tensors_of(TIED) | {"norm.weight": tensors_of(TIED)["model.norm.weight"]}),
        "tensors model.norm.weight and norm.weight are both model.norm.weight; leave one of them out",
    ),
    "one tensor in two shards": (
        lambda f: write(f, TIED, tensors_of(TIED), {"model.norm.weight": np.ones(28, np.float32)}),
        "tensor model.norm.weight is in model-0.safetensors and in model-1.safetensors",
    ),
    "a shard that is not there": (
        lambda f: removed(write(f, TIED, *halves(tensors_of(TIED))), "model-1.safetensors"),
        "model-1.safetensors, which model.safetensors.index.json names, is missing",
    ),
    "a tensor in another shard than listed": (
        lambda f: listed_elsewhere(write(f, TIED, *halves(tensors_of(TIED)))),
        ".safetensors: tensor model.norm.weight is missing, which model.safetensors.index.json names",
    ),
    "a tied output embedding of another shape": (
        lambda f: write(f, TIED, more(tensors_of(TIED), OUTPUT, 60, 28)),
        "tensor lm_head.weight has shape [60, 28], config.json says [61, 28]",
    ),
    "an adapter beside the model": (
        lambda f: with_file(write(f, TIED, tensors_of(TIED)), "adapter_config.json"),
        "holds adapter_config.json beside config.json",
    ),
    "attention in both directions": (
        lambda f: write(f, {**TIED, "is_causal": False}, tensors_of(TIED)),
        "is_causal=False is not supported; it must be True",
    ),
    "a window without a size": (
        lambda f: write(f, {**TIED, "use_sliding_window": False}, tensors_of(TIED)),
        "layers have a sliding window (layer_types), but sliding_window names none",
    ),
    "a rope of two types": (
        lambda f: write(f, {**UNTIED, "rope_scaling": {"rope_type": "yarn", "type": "linear"}}, tensors_of(UNTIED)),
        "the rope's rope_type=yarn and type=linear contradict each other",
    ),
    "ropes of kinds of layers that the family lacks": (
        lambda f: write(f, {**UNTIED, "rope_parameters": NESTED}, tensors_of(UNTIED)),
        "rope_parameters of this model_type must be the same for all layers",
    ),
    "one rope for kinds of layers": (
        lambda f: write(f, {**GEMMA, "rope_parameters": {"rope_theta": 100.0}}, tensors_of(GEMMA)),
        "rope_parameters of this model_type must be an entry for each of full_attention and sliding_attention",
    ),
}  # fmt: skip


def removed(folder, name):
    (folder / name).unlink()
    return folder


OTHER = "model-1.safetensors"


def listed_elsewhere(folder):
    index = folder / "model.safetensors.index.json"
    places = json.loads(index.read_text())["weight_map"]
    places["model.norm.weight"] = {"model-0.safetensors": OTHER, OTHER: "model-0.safetensors"}[
        places["model.norm.weight"]
    ]
    index.write_text(json.dumps({"weight_map": places}))
    return folder


def with_file(folder, name):
    (folder / name).write_text("{}")
    return folder


@pytest.mark.parametrize("what", REFUSED)
def test_it_is_refused_in_one_line(what, tmp_path):
    make, message = REFUSED[what]
    folder = make(tmp_path / "odd")
    with pytest.raises(UserError) as error:
        load_pretrained(folder)
    assert message in str(error.value) and "\n" not in str(error.value), error.value
    assert str(folder) in str(error.value)


def test_a_window_that_is_not_named_is_that_of_transformers(tmp_path):
    case = {k: v for k, v in CASES["qwen2-window"].items() if k != "sliding_window"}
    assert load_pretrained(write(tmp_path / "odd", case, tensors_of(case))).config.windows == (0, 4096, 4096)

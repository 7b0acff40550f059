"""Public process reward models against their published inference code, and their texts mapped back to the policy's."""

import copy
import json

import jax
import numpy as np
import pytest
from rewards.prm_references import FAMILY, GOLDEN, SOLUTIONS, reference_scores, save_checkpoint, tokenizer_of
from rewards.small_tokenizers import byte_level, metaspace

from stepjax.errors import UserError
from stepjax.measures.step_classes import CLASSES
from stepjax.models.prm_checkpoint import load_prm
from stepjax.parallel import make_mesh
from stepjax.rewards.by_token import by_token
from stepjax.rewards.conventions import CONVENTIONS
from stepjax.rewards.conventions_layout import Layout
from stepjax.rewards.public_prm import PublicPRM
from stepjax.steps import StepSplitter

NAMES = tuple(CONVENTIONS)
PROBLEMS = [problem for problem, _ in SOLUTIONS]
STEPS = [steps for _, steps in SOLUTIONS]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prms")
    return {name: save_checkpoint(name, folder / name) for name in NAMES}


@pytest.fixture(scope="module")
def models(checkpoints):
    """Each convention's model on one device, loaded once."""
    mesh = make_mesh(1, 1, 1, devices=jax.devices()[:1])
    return {name: load(checkpoints[name], name, mesh) for name in NAMES}


def load(path, name, mesh, *, rows=2, width=256):
    layout = Layout(CONVENTIONS[name], tokenizer_of(name))
    definition, params = load_prm(path, mesh, head=CONVENTIONS[name].head, classes=layout.classes)
    return PublicPRM(definition, params, layout, mesh, rows=rows, width=width)


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_those_of_the_published_code(models, name):
    golden = json.loads(GOLDEN.read_text())[name]
    for found, expected, steps in zip(models[name].score(PROBLEMS, STEPS), golden, STEPS, strict=True):
        assert found.shape == (len(steps), 3)
        np.testing.assert_allclose(found[:, 2], expected, atol=1e-4)
        np.testing.assert_allclose(found.sum(-1), 1.0, atol=1e-6)
        assert not found[:, 1].any()
    # The golden scores tell steps apart: a constant would not pass.
    assert np.ptp(np.concatenate(golden)) > 0.2


@pytest.mark.parametrize("name", NAMES)
def test_golden_scores_are_those_of_torch(name):
    pytest.importorskip("torch")
    golden = json.loads(GOLDEN.read_text())[name]
    for (problem, steps), expected in zip(SOLUTIONS, golden, strict=True):
        np.testing.assert_allclose(reference_scores(name, problem, steps), expected, atol=1e-5)


def test_names_agree_with_the_option():
    from stepjax.config import PRMOptions

    choices = PRMOptions.__dataclass_fields__["convention"].metadata["choices"]
    assert set(choices) == {"", *NAMES} == {"", *FAMILY}


def test_sharded_scores_are_those_of_one_device(checkpoints, models):
    mesh = make_mesh(1, 4, 2)
    sharded = load(checkpoints["qwen"], "qwen", mesh, rows=4)
    query = sharded.params["trunk"]["layers"]["query"]
    assert {s.data.size for s in query.addressable_shards} == {query.size // 8}
    for a, b in zip(sharded.score(PROBLEMS, STEPS), models["qwen"].score(PROBLEMS, STEPS), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_score_does_not_depend_on_what_shares_its_row(models):
    model = models["trl"]
    together = model.score(PROBLEMS * 3, STEPS * 3)
    for i, (problem, steps) in enumerate(SOLUTIONS):
        (alone,) = model.score([problem], [steps])
        np.testing.assert_allclose(together[i + 4], alone, atol=1e-5)


def test_nothing_is_compiled_after_the_first_batch(models):
    model = models["math_shepherd"]
    model.score(PROBLEMS, STEPS)
    compiled = model.program.compile()
    rng = np.random.default_rng(0)
    for _ in range(4):
        count = int(rng.integers(1, 9))
        texts = [["word " * int(rng.integers(1, 9)) for _ in range(int(rng.integers(1, 5)))] for _ in range(count)]
        assert all(len(f) == len(t) for f, t in zip(model.score(["p"] * count, texts), texts, strict=True))
    assert model.program.compile() is compiled


def test_solutions_longer_than_a_row_are_counted_and_have_no_scores(models):
    model = models["qwen"]
    found = model.score(["p", "p", "p"], [["short"], ["long " * 400], []])
    assert found[0] is not None and found[1] is None and found[2].shape == (0, 3)
    assert model.left_out == 1
    assert "1 response was wider than prm.row_tokens=256" in model.told_left_out()[0]
    model.score(["p"], [["short"]])
    assert model.told_left_out() == []


@pytest.mark.parametrize("name", NAMES)
def test_texts_cannot_write_marks_or_turns(name):
    """A policy that spells out the model's special tokens gets neither another score's place nor a turn of its own."""
    tokenizer = tokenizer_of(name)
    layout = Layout(CONVENTIONS[name], tokenizer)
    special = tokenizer.all_special_tokens + sorted(tokenizer.added_tokens_encoder)
    problem, steps = "p", ["a " + " ".join(special) + " b", "+ ки - " + "".join(special)]
    (clean,) = layout([problem], [["a b", "c"]])
    (reading,) = layout([problem], [steps])
    count = lambda ids: sum(int(i) in tokenizer.all_special_ids for i in ids)  # noqa: E731
    marks = 1 if name == "qwen" else 0
    assert count(reading.tokens) == count(clean.tokens)
    assert len(reading.places) == 2 and (np.diff(reading.places) > 0).all()
    if marks:
        mark = tokenizer.convert_tokens_to_ids("<extra_0>")
        assert np.flatnonzero(reading.tokens == mark).tolist() == reading.places.tolist()


@pytest.mark.parametrize("name", NAMES)
def test_a_tokenizer_that_does_not_fit_is_named(name):
    wrong = {"qwen": metaspace(), "rlhflow": metaspace()}
    if name in wrong:
        with pytest.raises(UserError, match=f"its tokenizer has no .*convention '{name}' needs"):
            Layout(CONVENTIONS[name], wrong[name])
    if name == "qwen":
        with pytest.raises(UserError, match="has no token '<extra_0>'"):
            Layout(CONVENTIONS[name], byte_level("llama"))


def test_a_checkpoint_without_the_head_is_named(checkpoints):
    mesh = make_mesh(1, 1, 1, devices=jax.devices()[:1])
    with pytest.raises(UserError, match=r"tensor v_head.summary.* is missing"):
        load_prm(checkpoints["trl"], mesh, head="value")
    with pytest.raises(UserError, match="tokenizer has 9999 entries"):
        load_prm(checkpoints["trl"], mesh, head="linear", entries=9999)
    with pytest.raises(UserError, match=r"row_tokens=2048: .* 1024 tokens"):
        load_prm(checkpoints["trl"], mesh, head="linear", longest=2048)


@pytest.mark.parametrize("tokenizer", [byte_level(), metaspace()], ids=["byte_level", "metaspace"])
def test_scores_stand_on_the_last_token_of_the_policys_steps(tokenizer):
    """Policy and model cut the text into other tokens; the steps' texts and ends carry the scores over."""
    splitter = StepSplitter(tokenizer, "\n\n")
    texts = ["größer als 5 €.\n\nThen 😀 x = 2.\n\nTherefore", "one\n\n\n\n two \n\n", "   ", "no end"]
    rows = [tokenizer.encode(t, add_special_tokens=False) for t in texts]
    width = max(map(len, rows))
    tokens, mask = np.zeros((4, width), np.int32), np.zeros((4, width), bool)
    for i, row in enumerate(rows):
        tokens[i, : len(row)], mask[i, : len(row)] = row, True
    steps = splitter.split(tokens, mask)
    index, end = np.asarray(steps.index), np.asarray(steps.end)
    of_steps = [splitter.texts(row) for row in rows]
    assert [len(s) for s in of_steps] == [3, 2, 0, 1]
    scores = [np.stack([np.arange(len(s)), 10.0 * np.ones(len(s)), -np.arange(len(s))], -1) for s in of_steps]
    scores[3] = None
    found = by_token(scores, index, end, columns=(len(CLASSES),))
    assert found.shape == (4, width, 3) and found.dtype == np.float32
    for i, s in enumerate(of_steps[:2]):
        at = np.flatnonzero(end[i])
        assert found[i, at, 0].tolist() == list(range(len(s)))
        # The text up to a step's end is that of its tokens.
        for k, last in enumerate(at):
            whole = tokenizer.decode(rows[i][: last + 1])
            assert whole.strip() == "".join(of_steps[i][: k + 1]).strip()
    assert not found[~end].any() and not found[2:].any()


def test_the_model_reads_the_problem_without_the_policys_template(tmp_path):
    from stepjax.tasks.base import Problem
    from stepjax.tasks.jsonl import JsonlProblems

    rows = "".join(json.dumps({"problem": f" What is {i}? ", "answer": str(i)}) + "\n" for i in range(4))
    (tmp_path / "test.jsonl").write_text(rows)
    task = JsonlProblems(tmp_path / "test.jsonl", tmp_path / "test.jsonl", prompt="<|user|>{problem}<|assistant|>")
    problem = task.problems("test")[1]
    assert problem.prompt == "<|user|> What is 1? <|assistant|>" and problem.text == "What is 1?"
    assert Problem("", "plain\n", "").text == "plain"


@pytest.mark.parametrize("name", NAMES)
def test_a_response_without_steps_has_no_reading(name):
    layout = Layout(CONVENTIONS[name], tokenizer_of(name))
    none, some = layout(["p", "q"], [[], ["s", "t"]])
    assert none is None and len(some.places) == 2
    assert layout(["p"], [[]]) == [None]


def test_a_text_begins_once_whoever_writes_the_beginning():
    marked = copy.deepcopy(byte_level("llama"))
    marked.add_special_tokens({"additional_special_tokens": ["<extra_0>"]})
    begin = marked.bos_token_id
    assert marked.encode("a").count(begin) == 1, "the tokenizer writes it, and so does the chat template"
    for name, tokenizer in (("qwen", marked), ("rlhflow", byte_level("llama")), ("math_shepherd", metaspace())):
        (reading,) = Layout(CONVENTIONS[name], tokenizer)(["What is 5+8?"], [["5+8=13", "The answer is 13"]])
        assert reading.tokens[0] == tokenizer.bos_token_id, name
        assert (reading.tokens == tokenizer.bos_token_id).sum() == 1, name
    marked.chat_template = marked.chat_template.replace("{{ bos_token }}", "")
    (reading,) = Layout(CONVENTIONS["qwen"], marked)(["What is 5+8?"], [["5+8=13"]])
    assert (reading.tokens == begin).tolist().index(True) == 0, (
        "as the published code, which encodes the chat as a text"
    )

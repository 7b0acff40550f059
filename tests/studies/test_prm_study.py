"""The study of labels: what each kind says of a response, values by completions, the table over seeds."""

import dataclasses
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stepjax.config import Config
from stepjax.runs.responses import read_response
from stepjax.steps import StepSplitter
from stepjax.studies import continuations, prm_study
from stepjax.studies.continuations import count_completions, prefix_values
from stepjax.studies.prm_study import COMPLETIONS, FILE, KINDS, WORLDS, example, label_figures, main
from stepjax.studies.soft_labels import soft_sums
from stepjax.tasks.base import Problem
from stepjax.tasks.register_chain import RegisterChain, build_tokenizer

TASK, TOKENIZER = RegisterChain(), build_tokenizer()
RUN = SimpleNamespace(
    task=TASK,
    tokenizer=TOKENIZER,
    splitter=StepSplitter(TOKENIZER, TASK.separator),
    eos=TOKENIZER.eos_token_id,
    config=dataclasses.replace(Config(), eval=dataclasses.replace(Config().eval, rows=8)),
)
PROBLEM = Problem("test/0", "a=7;b=a+5;c=b*3;?c\n", "6")


def response(text: str, *, finished: bool = True):
    ids = TOKENIZER.encode(text, add_special_tokens=False)
    prompt = TOKENIZER.encode(PROBLEM.prompt, add_special_tokens=False)
    return read_response(RUN, PROBLEM, prompt, [*ids, RUN.eos] if finished else ids, finished)


WRONG = response("b=7+5=3\nc=3*3=9\n?9")  # wrong at its first step
RIGHT = response("b=7+5=2\nb=2\nc=2*3=6\n?6")
CUT = response("b=7+5=2\nc=2*", finished=False)


def test_what_each_kind_of_label_says():
    n, values = COMPLETIONS, np.array([0.125, 0.0, 0.0])
    said = {kind: labels(WRONG, values) for kind, labels in KINDS.items()}
    assert said["exact"][0] == 0 and said["exact"][-1] == 0
    assert said["hard"] == [n, 0, 0], "one lucky completion makes the first step good"
    assert said["soft"] == [1, 0, 0]
    assert said["value"] == [0, 0, 0]
    assert said["outcome"] == [None, None, 0]
    right = {kind: labels(RIGHT, np.array([0.5, 0.5, 1.0, 1.0])) for kind, labels in KINDS.items()}
    assert right["exact"] == [n] * 4, "a neutral step is right"
    assert right["soft"] == [n // 2, n // 2, n, n] and right["outcome"] == [None, None, None, n]
    assert KINDS["exact"](CUT, np.zeros(2)) == [n, None], "a step that was cut off is no step"
    figures = label_figures([WRONG], [values])
    assert figures["exact"] == {"steps": 3, "same": 1.0} and figures["hard"]["same"] == pytest.approx(2 / 3)
    assert figures["outcome"]["steps"] == 1


def test_labels_stand_on_the_last_token_of_their_steps():
    found = example(RUN, RIGHT, [8, None, 3, 0])
    at = np.flatnonzero(found.targets >= 0)
    assert found.targets[at].tolist() == [8, 3, 0]
    ends = len(RIGHT.prompt) + np.flatnonzero(RUN.splitter.split_host(RIGHT.tokens)[1])
    assert at.tolist() == [ends[0], ends[2], ends[3]]
    assert (found.targets[: len(RIGHT.prompt)] == -2).all() and len(found.targets) == len(found.tokens)


def test_values_are_shares_of_right_completions(monkeypatch):
    asked = []

    class Scripted:
        """Answers right from the true prefix in two of four completions, never from others."""

        def __init__(self, run, shape, temperature):
            self.width = shape.prompt_width

        def many(self, params, prompts, rows, key, bar=None):
            found = []
            for i, row in enumerate(rows):
                text = TOKENIZER.decode(prompts.tokens[row])
                assert len(prompts.tokens[row]) <= self.width
                asked.append(text)
                good = "b=7+5=2" in text and i % 4 < 2
                ids = TOKENIZER.encode("c=2*3=6\n?6" if good else "?9", add_special_tokens=False)
                found.append(SimpleNamespace(tokens=ids, finished=True))
            return found

    monkeypatch.setattr(continuations, "ResponseSampler", Scripted)
    monkeypatch.setattr(continuations, "batch_devices", lambda mesh: 1)
    monkeypatch.setattr(RUN, "mesh", None, raising=False)
    some = [WRONG, RIGHT, CUT]
    values = prefix_values(RUN, {}, some, jax.random.key(0), completions=4)
    assert [v.tolist() for v in values] == [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5, 1.0], [0.5, 0.5]]
    assert count_completions(some, 4) == len(asked) == 4 * (2 + 3 + 2)
    starts = {text.removeprefix(PROBLEM.prompt) for text in asked}
    assert "b=7+5=2\nb=2\n" in starts, "a prefix ends with its separator, as the policy would go on"
    assert "b=7+5=2\nc=2*" in starts, "a cut step goes on where it stands"
    assert RIGHT.text not in starts, "after the end there is nothing to complete"


def test_the_soft_loss_is_a_loops():
    logits = np.random.default_rng(0).normal(size=(1, 5, 3))
    targets = np.array([[-2, 3, -1, 8, 0]])
    batch = {name: jnp.zeros((1, 5), jnp.int32) for name in ("tokens", "positions", "segments")}
    total, counts = soft_sums(
        lambda *_: jnp.asarray(logits), batch | {"targets": jnp.asarray(targets)}, parts=8, lm_loss=0
    )
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = sum(-(v * np.log(p[0, t, 2]) + (1 - v) * np.log(p[0, t, 0])) for t, v in ((1, 3 / 8), (3, 1), (4, 0)))
    assert float(total) == pytest.approx(expected, rel=1e-5)
    assert int(counts["tokens"]) == 3


def study(shift: float) -> dict:
    curves = {name: {"mean": [0.5, 0.5, 0.6 + shift, 0.7, 0.8, 0.9, 1.0]} for name in ("pass", "majority")}
    curves |= {f"best/{how}": curves["pass"] for how in ("min", "product", "last", "mean")}
    report = {
        "first_error": {"fixed": {"f1": 0.5 + shift}, "tuned": {"f1": 0.6}},
        "steps": {"auc": 0.7},
        "values": {"auc": 0.8, "mean_difference": None},
        "best_of_n": {"sizes": [1, 2, 4, 8, 16, 32, 64], "curves": curves},
    }
    return {"worlds": {name: {"accuracy": 0.5, "kinds": dict.fromkeys(KINDS, report)} for name in WORLDS}}


def test_the_table_has_mean_and_spread_over_seeds(tmp_path, capsys):
    for i, shift in enumerate((0.0, 0.2)):
        (tmp_path / str(i)).mkdir()
        (tmp_path / str(i) / FILE).write_text(json.dumps(study(shift)))
    main(["--table", str(tmp_path / "0"), str(tmp_path / "1")])
    told = capsys.readouterr().out
    assert "60.0±14.1" in told and all(name in told for name in WORLDS) and "nan" in told
    with pytest.raises(prm_study.UserError, match="--table"):
        main(["--table", str(tmp_path)])

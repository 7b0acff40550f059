"""The examples of CONTRIBUTING.md are rows that work, and its table names files that exist."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
from docs.pages import ROOT, blocks, code_in, table_rows

from stepjax.config import StreamOptions
from stepjax.credit.estimators import Scores
from stepjax.errors import UserError
from stepjax.rewards.places import last_token
from stepjax.rewards.signals import SIGNALS, text_reward
from stepjax.tasks.base import Task
from stepjax.trajectory import Trajectory

PAGE = ROOT / "CONTRIBUTING.md"


def example(name: str) -> dict:
    """What the block that defines `name` leaves behind."""
    found = [block for block in blocks(PAGE, "python") if re.search(rf"^(def|class) {name}\b", block, re.M)]
    assert len(found) == 1, name
    defined: dict = {}
    exec(compile(found[0], name, "exec"), defined)
    return defined


def test_the_table_names_files():
    rows = table_rows(PAGE, "new")
    named = {code for _, files in rows for code in code_in(files) if "/" in code}
    assert len(rows) == 14 and all((ROOT / code).exists() for code in named)


def test_the_signal():
    rows = Trajectory(
        tokens=jnp.zeros((2, 4), jnp.int32),
        prompt_length=jnp.array([1, 1]),
        response_length=jnp.array([3, 2]),
        finished=jnp.array([True, False]),
        logprobs=jnp.zeros((2, 4)),
        prompt_width=1,
    )
    row = example("brevity")["SIGNALS"]["brevity"]
    found = row.rewards(rows, {}, StreamOptions())
    assert found.tolist() == [[0, 0, 0, -3], [0, 0, -2, 0]]
    np.testing.assert_array_equal(row.place.tokens(rows), last_token(rows))


def test_the_signal_of_the_host():
    row = example("shouting_reward")["SIGNALS"]["shouting"]
    assert row.rewards is text_reward is SIGNALS["format"].rewards
    reward = row.text_reward(StreamOptions(bad=-2.0), "here")
    assert [r.tolist() for r in reward(["p"], ["a\nB"], [["a", "B"]])] == [[1.0, -2.0]]


def test_the_estimator():
    scored = jnp.array([[True, False, True]])
    scores = Scores(jnp.array([[1.0, 9.0, 3.0]]), scored, scored, jnp.zeros(1), None, None, 1)
    row = example("centred")["ESTIMATORS"]["centred"]
    assert row.place(scores).tolist() == [[-1.0, 0.0, 1.0]] and not row.sums_rewards


def test_the_task():
    task: Task = example("Sums")["TASK"].make(None)
    splits = [{problem.prompt for problem in task.problems(split)} for split in ("train", "valid", "test")]
    assert [len(prompts) for prompts in splits] == [80, 10, 10] and len(set.union(*splits)) == 100
    assert task.grade(task.problems("test")[1], "10\n") and task.rate_steps(task.problems("test")[0], []) is None


def test_the_environment():
    assert example("Counter")["ENVIRONMENT"]().reply("ab#=") == "4"


def test_the_environment_over_turns():
    environment = example("Applause")["TURNS"]()
    environment.reset(None)
    replies = [environment.step(text) for text in ("a!\n", "b\n", "!!!\n")]
    assert [(r.reward, r.done) for r in replies] == [(1.0, False), (0.0, False), (3.0, True)]


def test_the_family():
    row = example("_mine")["FAMILIES"]["mine"]
    config = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "vocab_size": 96}
    decoder = row.decoder("here", config | {"intermediate_size": 128, "attention_bias": True})
    assert decoder.head_dim == 128 and decoder.qk_norm and decoder.qkv_bias
    with pytest.raises(UserError, match=r"^here: "):
        row.decoder("here", config)

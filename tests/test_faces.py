"""The names that users' scripts rely on stay where they are."""

import importlib
import inspect
from pathlib import Path

import pytest

NAMES = {
    "stepjax.credit": ("segment_gae",),
    "stepjax.rewards": ("bound", "clip", "delta", "min_form", "on_response_end", "on_step_ends", "score"),
    "stepjax.rollout": ("HostTool", "RolloutShape", "Sampler", "StopStrings", "generate", "rollout_program"),
    "stepjax.learners": ("loss_weights", "ppo_clip", "ppo_loss", "token_logprobs", "token_values", "value_loss"),
    "stepjax.steps": ("StepSplitter", "Steps"),
    "stepjax.models": ("DecoderConfig", "LanguageModel", "PretrainedModel", "load_pretrained", "save_pretrained"),
    "stepjax.tasks": ("Problem", "StepRating", "Task", "check_calculations", "grade"),
    "stepjax.options": ("from_dict", "parse", "recipe", "stream"),
    "stepjax.errors": ("UserError",),
}

PARAMETERS = {
    "stepjax.credit.segment_gae": "rewards values mask step_end gamma lam boundary_discount bootstrap",
    "stepjax.rewards.clip": "scores mask eta",
    "stepjax.rewards.delta": "scores mask",
    "stepjax.rewards.min_form": "scores mask temperature",
    "stepjax.rewards.on_step_ends": "scores steps",
    "stepjax.rewards.on_response_end": "scores mask",
    "stepjax.rewards.score": "prm params rows steps",
    "stepjax.rollout.generate": "policy params prompts key new_tokens eos",
    "stepjax.rollout.Sampler": "temperature top_k top_p min_p min_tokens",
    "stepjax.learners.token_logprobs": "policy params rows",
    "stepjax.learners.token_values": "critic params rows",
    "stepjax.learners.ppo_loss": "policy params rows advantages",
    "stepjax.steps.StepSplitter": "tokenizer separator",
    "stepjax.steps.StepSplitter.split": "self tokens mask",
    "stepjax.models.load_pretrained": "path",
    "stepjax.models.save_pretrained": "model path",
    "stepjax.tasks.grade": "response answer",
    "stepjax.tasks.check_calculations": "step",
}
"""Of each promised function: its parameters, in order; it may have more of them, with defaults, behind."""


@pytest.mark.parametrize("module", NAMES)
def test_faces_have_their_names(module):
    found = importlib.import_module(module)
    assert set(NAMES[module]) <= set(getattr(found, "__all__", dir(found)))


@pytest.mark.parametrize("module", ["stepjax.credit", "stepjax.rewards", "stepjax.rollout", "stepjax.learners"])
def test_a_name_of_a_face_is_no_module(module):
    """Python would put a submodule of that name in its place, whenever something imports it."""
    found = importlib.import_module(module)
    assert not {path.stem for path in Path(found.__path__[0]).glob("*.py")} & set(found.__all__)


@pytest.mark.parametrize("function", PARAMETERS)
def test_promised_functions_take_their_parameters(function):
    parts = function.split(".")
    value = importlib.import_module(".".join(parts[:2]))
    for part in parts[2:]:
        value = getattr(value, part)
    parameters = list(inspect.signature(value).parameters.values())
    promised = PARAMETERS[function].split()
    assert [p.name for p in parameters[: len(promised)]] == promised
    assert all(p.default is not inspect.Parameter.empty for p in parameters[len(promised) :])

"""The names that users' scripts rely on stay where they are."""

import importlib
import inspect

import pytest

NAMES = {
    "stepjax.credit": ("segment_gae",),
    "stepjax.rewards": ("bound", "clip", "delta", "min_form"),
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

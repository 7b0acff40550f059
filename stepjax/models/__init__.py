"""Decoders and heads."""

from stepjax.models.config import DecoderConfig
from stepjax.models.critics import Critics, ValueHead
from stepjax.models.decoder import Trunk
from stepjax.models.definition import Definition
from stepjax.models.heads import LanguageModel, ScoreModel, StepReader
from stepjax.models.pretrained import PretrainedModel, load_pretrained, save_pretrained

__all__ = [
    "Critics",
    "DecoderConfig",
    "Definition",
    "LanguageModel",
    "PretrainedModel",
    "ScoreModel",
    "StepReader",
    "Trunk",
    "ValueHead",
    "load_pretrained",
    "save_pretrained",
]

"""Decoders and heads."""

from stepjax.models.critics import Critics, ValueHead
from stepjax.models.decoder import DecoderConfig, Trunk
from stepjax.models.definition import Definition, count_parameters
from stepjax.models.heads import LanguageModel, ScoreModel, StepReader

__all__ = [
    "Critics",
    "DecoderConfig",
    "Definition",
    "LanguageModel",
    "ScoreModel",
    "StepReader",
    "Trunk",
    "ValueHead",
    "count_parameters",
]

"""Decoders and heads."""

from stepjax.models.decoder import DecoderConfig, Trunk
from stepjax.models.definition import Definition, count_parameters
from stepjax.models.heads import LanguageModel, ScoreModel

__all__ = ["DecoderConfig", "Definition", "LanguageModel", "ScoreModel", "Trunk", "count_parameters"]

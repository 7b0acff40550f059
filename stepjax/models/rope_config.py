"""Rotary positions as config.json files write them, in the older spelling (rope_theta, rope_scaling) and the newer one
(rope_parameters, whole or one entry a kind of layer)."""

from collections.abc import Mapping
from typing import Any

from stepjax.errors import UserError
from stepjax.models.config_fields import Fields
from stepjax.models.rope import SCALINGS, Rope, RopeScaling, yarn_magnitude

LOCAL_THETA, GLOBAL_THETA = 10_000.0, 1_000_000.0
"""Bases of Gemma 3's layers with and without a window where its config names none."""

KINDS = ("full_attention", "sliding_attention")


def read_ropes(read: Fields) -> tuple[Rope, Rope | None]:
    """Rotary positions of layers without a window, and of layers with one where these have their own."""
    named = read("rope_parameters", dict, None) or {}
    old = read("rope_scaling", dict, None) or {}
    nested = bool(named.keys() & set(KINDS))
    by_kind = read.values.get("model_type") == "gemma3_text"
    if named and nested != by_kind:
        entries = f"an entry for each of {' and '.join(KINDS)}" if by_kind else "the same for all layers"
        raise UserError(f"{read.where}: rope_parameters of this model_type must be {entries}")
    theta = read("rope_theta", float, GLOBAL_THETA if by_kind else 10_000.0)
    if not by_kind:
        # As in transformers, a number beside the rope's own fields counts more than one among them.
        field = "original_max_position_embeddings"
        beside = {field: n} if (n := read(field, int, None)) else {}
        return _rope(read, {**(old or named), **beside}, theta), None
    whole, local = (named.get(kind) or {"rope_type": "default"} for kind in KINDS)
    local_theta = read("rope_local_base_freq", float, LOCAL_THETA)
    return _rope(read, {**whole, **old}, theta), _rope(read, local, local_theta)


def _rope(read: Fields, values: Mapping[str, Any], theta: float) -> Rope:
    kind = values.get("rope_type", values.get("type", "default"))
    if values.get("type", kind) != kind:
        raise UserError(f"{read.where}: the rope's rope_type={kind} and type={values['type']} contradict each other")
    if "rope_theta" in values:
        theta = _number(read, values, "rope_theta", 0.0)
    if theta <= 0:
        raise UserError(f"{read.where}: rope_theta must be above 0, not {theta}")
    if values.get("partial_rotary_factor") not in (None, 1.0):
        raise UserError(f"{read.where}: partial_rotary_factor={values['partial_rotary_factor']} is not supported")
    if kind == "default":
        return Rope(theta)
    if kind not in SCALINGS:
        raise UserError(
            f"{read.where}: rope type {str(kind)[:40]!r} is not supported (there are: {', '.join(SCALINGS)})"
        )
    factor = _number(read, values, "factor")
    if kind == "linear":
        return Rope(theta, RopeScaling("linear", factor))
    context = read("max_position_embeddings", int, None)
    original = int(_number(read, values, "original_max_position_embeddings", context))
    if kind == "llama3":
        low, high = (_number(read, values, name) for name in ("low_freq_factor", "high_freq_factor"))
        if high <= low:
            raise UserError(f"{read.where}: rope's high_freq_factor={high} must be above low_freq_factor={low}")
        return Rope(theta, RopeScaling("llama3", factor, original, low, high))
    magnitude = values.get("attention_factor")
    if magnitude is None:
        magnitude = yarn_magnitude(factor, values.get("mscale"), values.get("mscale_all_dim"))
    scaling = RopeScaling(
        "yarn",
        factor,
        original,
        beta_fast=float(values.get("beta_fast") or 32),
        beta_slow=float(values.get("beta_slow") or 1),
        truncate=bool(values.get("truncate", True)),
        magnitude=float(magnitude),
    )
    return Rope(theta, scaling)


def _number(read: Fields, values: Mapping[str, Any], name: str, default: float | None = None) -> float:
    value = values.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise UserError(f"{read.where}: the rope's {name} must be a number above 0, not {str(value)[:40]!r}")
    return float(value)

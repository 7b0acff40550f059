"""In which options runs differ: what their rows and lines are named by."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from stepjax.config import default_option
from stepjax.report.read import flatten

APART = (
    *("seed", "base", "from_base", "profile"),
    *("mesh.", "distributed.", "log.", "export.", "sample.", "data.", "bench.", "eval."),  # eval.json has its own
)
"""Options in which the runs of one row may differ: repetitions of the same experiment, and what its figures do not
depend on. One that ends in "." stands for all below it."""

NOTED = ("log_every", "checkpoint_every", "samples_every", "log_samples", "export_every", "export_keep", "alarm")
"""The last parts of names of options that decide only what is written down, and when."""

MOST = 4
"""Options that a name shows."""

_STREAM = re.compile(r"ppo\.streams\.([^.]+)\.([^.]+)")


def same_experiment(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a config.json that tell experiments apart, by their dotted names."""
    flat = flatten(json.loads(json.dumps(config)), ".")
    return {name: value for name, value in flat.items() if not _apart(name)}


def _apart(name: str) -> bool:
    if name.rpartition(".")[2] in NOTED:
        return True
    return any(name == entry or (entry.endswith(".") and name.startswith(entry)) for entry in APART)


def differing(experiments: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """For each experiment, `name=value` of the options in which they differ; all empty where they are one.

    An option that one lacks counts with its default. A stream that one lacks is `none`; of a stream that only some have
    the signal is named, and what differs from a stream's defaults.
    """
    names = list(dict.fromkeys(name for options in experiments for name in options))
    named: list[list[str]] = [[] for _ in experiments]
    for name in names:
        values = [_value(options, name) for options in experiments]
        if all(value == values[0] for value in values):
            continue
        for parts, options, value in zip(named, experiments, values, strict=True):
            if told := _told(options, name, value):
                parts.append(told)
    return named


def _value(options: Mapping[str, Any], name: str) -> Any:
    """The option's value; its default where the options lack it, None for one of a stream that is not there."""
    if name in options:
        return options[name]
    match = _STREAM.fullmatch(name)
    if match and not any(other.startswith(f"ppo.streams.{match[1]}.") for other in options):
        return None
    return _default(name)


def _default(name: str) -> Any:
    try:
        return json.loads(json.dumps(default_option(name)))
    except (KeyError, TypeError):  # a damaged file may have something else in the place of a section
        return None


def _told(options: Mapping[str, Any], name: str, value: Any) -> str:
    if match := _STREAM.fullmatch(name):
        if value is None:
            return f"ppo.streams.{match[1]}=none" if match[2] == "signal" else ""
        if match[2] != "signal" and value == _default(name):
            return ""
    return f"{name}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"


def in_short(folder: str, options: Sequence[str]) -> str:
    """The name of a row: its folder's, and the first of the options in which it differs, those of PPO before others."""
    if not options:
        return folder
    options = sorted(options, key=lambda told: not told.startswith("ppo."))
    more = f" and {len(options) - MOST} more" if len(options) > MOST else ""
    return f"{folder}: {', '.join(options[:MOST])}{more}"

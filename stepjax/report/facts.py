"""What a run was: its changed options with their defaults, the others, its machine, versions and durations."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stepjax.config import Config, default_option
from stepjax.console.terminal import duration
from stepjax.report.read import flatten
from stepjax.report.text import number, title

STREAMS = "ppo.streams"


@dataclass(frozen=True)
class Option:
    """An option's dotted name, value and default in words; `default` is "" where there is none to tell."""

    name: str
    value: str
    default: str = ""


def options(config: Mapping[str, Any]) -> tuple[list[Option], list[Option]]:
    """The options of a config.json: those that differ from the defaults, in their order there, and the others.

    An option that this version does not have counts as changed. A stream of the defaults that is not there is `none`;
    of one that the defaults lack, what differs from a plain stream's is changed, and its signal.
    """
    changed, others = [], []
    plain = Config().ppo.streams
    for name, value in sorted(flatten(dict(config), ".").items()):
        try:
            default = json.loads(json.dumps(_default(name, plain)))
        except (AttributeError, KeyError, TypeError):  # of another version, or a damaged file
            changed.append(Option(name, _words(value)))
            continue
        new = name.startswith(f"{STREAMS}.") and name.split(".")[2] not in plain
        if new and name.endswith(".signal"):
            changed.append(Option(name, _words(value), "no such stream"))
        elif value != default:
            changed.append(Option(name, _words(value), _words(default)))
        else:
            others.append(Option(name, _words(value)))
    of_ppo = config.get("ppo")
    streams = of_ppo.get("streams") if isinstance(of_ppo, dict) else None
    if isinstance(streams, dict):
        changed += [Option(f"{STREAMS}.{name}", "none", "there is one") for name in sorted(set(plain) - set(streams))]
    return changed, others


def _default(name: str, streams: Mapping[str, Any]) -> Any:
    """The option's default; of a stream of the defaults its own."""
    parts = name.split(".")
    if name.startswith(f"{STREAMS}.") and len(parts) == 4 and parts[2] in streams:
        return getattr(streams[parts[2]], parts[3])
    return default_option(name)


def _words(value: Any) -> str:
    """Text as it is, the rest as config.json writes it."""
    return value if isinstance(value, str) else json.dumps(value)


def stages(metrics: Sequence[Mapping[str, Any]], executions: Sequence[Mapping[str, Any]]) -> list[str]:
    """How far each stage went and how long it took: "PPO: 60 iterations in 2:10", and "all in 3:52"."""
    last: dict[str, int] = {}
    for record in metrics:
        last[record["stage"]] = max(record["step"], last.get(record["stage"], 0))
    took: dict[str, float] = {}
    for of_one in executions:
        if (seconds := number(of_one.get("seconds"))) is not None:
            stage = str(of_one.get("stage", ""))
            took[stage] = took.get(stage, 0.0) + seconds
    told = []
    for stage in filter(None, dict.fromkeys([*last, *took])):
        went = f"{last[stage]:,} {'iterations' if stage == 'ppo' else 'updates'}" if stage in last else ""
        lasted = f"in {duration(took[stage])}" if stage in took else ""
        told.append(f"{title(stage)}: {f'{went} {lasted}'.strip().removeprefix('in ')}")
    return told + ([f"all in {duration(sum(took.values()))}"] if len(took) > 1 else [])


def machine(executions: Sequence[Mapping[str, Any]]) -> list[str]:
    """The devices, and the versions of what computed; of every machine and version that took part, each once."""
    told: dict[str, None] = {}
    for of_one in executions:
        told |= dict.fromkeys(filter(None, (_devices(of_one), _versions(of_one.get("versions")))))
    return list(told)


def _devices(of_one: Mapping[str, Any]) -> str:
    devices, cores, processes = (number(of_one.get(key)) for key in ("devices", "cores", "processes"))
    kind = of_one.get("device")
    if devices is None or not isinstance(kind, str):
        return ""
    hosts = f" on {processes:.0f} hosts" if processes and processes > 1 else ""
    host = f" ({cores:.0f} cores)" if cores and kind == "cpu" and not hosts else ""
    return f"{devices:.0f} × {kind}{host}{hosts}"


def _versions(versions: Any) -> str:
    if not isinstance(versions, dict):
        return ""
    named = [f"{name} {versions[name]}" for name in ("stepjax", "commit", "jax", "python") if name in versions]
    return ", ".join(named)

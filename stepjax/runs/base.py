"""A run that builds on another one: the same tokenizer and model, and the other run's finished stages."""

import json
from pathlib import Path
from typing import Any

from stepjax.config import Config
from stepjax.data.tokenizers import load_tokenizer
from stepjax.errors import UserError
from stepjax.workdir.folder import CONFIG

SHAPE = ("path", "layers", "width", "heads", "kv_heads", "head_dim", "mlp", "qkv_bias", "qk_norm", "tied", "rope_theta")
"""The options of the model on which its parameters' shapes or meaning depend."""


def base_of(config: Config, stage: str) -> str:
    """The work directory where a stage is read that is not trained here; "": there is none."""
    return config.prm.run if _has_own(config, stage) else config.base


def named_base(config: Config, stage: str) -> str:
    """The option that names it and its value, for messages."""
    return f"config.{'prm.run' if _has_own(config, stage) else 'base'}={base_of(config, stage)}"


def _has_own(config: Config, stage: str) -> bool:
    return stage == "prm" and bool(config.prm.run)


def check_base(config: Config) -> None:
    """UserError where `config.base` or `config.prm.run` is not a work directory, or is one of another model."""
    for where, base in (("config.base", config.base), ("config.prm.run", config.prm.run)):
        if base:
            _check_model(config, where, base)


def check_prm_run(config: Config, tokenizer: Any) -> None:
    """UserError where the process reward model of `config.prm.run` cannot score what this run's tokenizer writes, or
    something else rules it out."""
    base = config.prm.run
    if not base:
        return
    others = {
        "prm.path": (config.prm.path, "only one model scores the steps"),
        "lora.rank": (config.lora.rank, "its adapters would be put on the weights of this run's policy"),
    }
    for name, (asked, why) in others.items():
        if asked:
            raise UserError(f"config.{name}: not with prm.run={base}: {why}; leave one of the two out")
    if load_tokenizer(Path(base) / "tokenizer").get_vocab() != tokenizer.get_vocab():
        raise UserError(f"config.prm.run={base}: its tokenizer differs from this run's, which it could not read")


def _check_model(config: Config, where: str, base: str) -> None:
    path = Path(base) / CONFIG
    try:
        found = json.loads(path.read_text())
        theirs = {f"model.{name}": found["model"][name] for name in SHAPE if name != "path"}
        theirs["model.path"] = found["model"].get("path", "")  # a run of an earlier version started from scratch
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or "not a config that stepjax wrote"
        raise UserError(f"{where}={base}: {path} cannot be read ({reason}); name a finished work directory") from None
    _compare(f"{where}={base}", theirs, {f"model.{name}": getattr(config.model, name) for name in SHAPE})


def check_base_prm(config: Config) -> None:
    """UserError where the base's process reward model, which this run takes, is not as this run's options say."""
    ours = config.prm
    found = json.loads((Path(base_of(config, "prm")) / CONFIG).read_text())["prm"]
    # A run of an earlier version has three classes.
    theirs = {"prm.reader_layers": found.get("reader_layers", 0), "prm.classes": found.get("classes", 3)}
    _compare(named_base(config, "prm"), theirs, {"prm.reader_layers": ours.reader_layers, "prm.classes": ours.classes})


def _compare(base: str, theirs: dict[str, object], ours: dict[str, object]) -> None:
    """`base`: the option and its value."""
    for name, value in ours.items():
        if theirs[name] != value:
            raise UserError(f"{base}: it has {name}={theirs[name]}, this run {value}; set config.{name}={theirs[name]}")


def check_adapters(config: Config, stage: str) -> None:
    """UserError where a stage of the base has adapters and this run's has none, or the other way round."""
    ours = config.lora
    theirs = json.loads((Path(base_of(config, stage)) / CONFIG).read_text()).get("lora", {})
    rank = theirs.get("rank", 0) if stage in theirs.get("stages", ()) else 0
    here = ours.rank if stage in ours.stages else 0
    if rank == here:
        return
    if rank:
        stages = tuple(theirs["stages"])
        cure = (
            f'set --config.lora.rank={rank} --config.lora.stages="{stages}", or export its policy and start from that'
        )
        trained = f"adapters of rank {rank}"
    else:
        trained, left = "all parameters", tuple(s for s in ours.stages if s != stage)
        cure = f'leave {stage} out: --config.lora.stages="{left}" puts adapters on what it trained'
    where = named_base(config, stage)
    raise UserError(f"{where}: its stage {stage} trained {trained}, this run's lora.rank is {here}; {cure}")

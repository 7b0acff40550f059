"""A run that builds on another one: the same tokenizer and model, and the other run's finished stages."""

import json
from pathlib import Path

from stepjax.config import Config, LoRAOptions, PRMOptions
from stepjax.errors import UserError
from stepjax.workdir.folder import CONFIG

SHAPE = ("path", "layers", "width", "heads", "kv_heads", "head_dim", "mlp", "qkv_bias", "qk_norm", "tied", "rope_theta")
"""The options of the model on which its parameters' shapes or meaning depend."""


def check_base(config: Config) -> None:
    """UserError where `config.base` is not a work directory, or is one of another model."""
    base = config.base
    if not base:
        return
    path = Path(base) / CONFIG
    try:
        found = json.loads(path.read_text())
        theirs = {f"model.{name}": found["model"][name] for name in SHAPE if name != "path"}
        theirs["model.path"] = found["model"].get("path", "")  # a run of an earlier version started from scratch
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or "not a config that stepjax wrote"
        raise UserError(
            f"config.base={base}: {path} cannot be read ({reason}); name a finished work directory"
        ) from None
    _compare(base, theirs, {f"model.{name}": getattr(config.model, name) for name in SHAPE})


def check_base_prm(base: Path, ours: PRMOptions) -> None:
    """UserError where the base's process reward model, which this run takes, is not as this run's options say."""
    found = json.loads((base / CONFIG).read_text())["prm"]
    # A run of an earlier version has three classes.
    theirs = {"prm.reader_layers": found.get("reader_layers", 0), "prm.classes": found.get("classes", 3)}
    _compare(str(base), theirs, {"prm.reader_layers": ours.reader_layers, "prm.classes": ours.classes})


def _compare(base: str, theirs: dict[str, object], ours: dict[str, object]) -> None:
    for name, value in ours.items():
        if theirs[name] != value:
            raise UserError(
                f"config.base={base}: it has {name}={theirs[name]}, this run {value}; set config.{name}={theirs[name]}"
            )


def check_adapters(base: Path, stage: str, ours: LoRAOptions) -> None:
    """UserError where a stage of the base has adapters and this run's has none, or the other way round."""
    theirs = json.loads((base / CONFIG).read_text()).get("lora", {})
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
    raise UserError(f"config.base={base}: its stage {stage} trained {trained}, this run's lora.rank is {here}; {cure}")

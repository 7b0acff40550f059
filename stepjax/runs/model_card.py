"""The model card of an exported policy: what it was made from, what it was paid for, and what was measured."""

import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from stepjax.models.checkpoint_folder import HUB_NAME, CheckpointFolder, GgufCheckpoint
from stepjax.options.changed import changed
from stepjax.rewards.reward_streams import reads_prm
from stepjax.runs.card_figures import Figures, figures_of
from stepjax.runs.setup import Run
from stepjax.runs.stages import policy_step, stage_folder
from stepjax.tasks.hooks import ReadsFiles
from stepjax.workdir import origin
from stepjax.workdir.code_version import code_version
from stepjax.workdir.json_file import read_json

CARD = "README.md"
PACKAGES = ("stepjax", "jax", "flax", "optax", "transformers")
APART = ("export.", "log.", "sample.", "bench.", "profile")
"""Options that say nothing of the model."""

_ABOVE = re.compile(r"(?<![\w.:/~])(?:~|/)[^\s,'\"]*/")


HOW = {
    "sft": "supervised training on demonstrations",
    "improve": "expert iteration from search",
    "ppo": "step-level PPO",
}
"""How a stage trains the policy."""


def write_card(run: Run, stage: str, folder: Path, *, adapter: bool = False, name: str = "") -> None:
    """Writes README.md of the exported folder of a stage's policy; `name`: of the repository that it is pushed to.

    Paths of this machine are cut to their last part: the card may be published.
    """
    step = policy_step(run, stage)
    title = name.rpartition("/")[2] or run.workdir.name
    figures = figures_of(read_json(run.workdir / "eval.json"), stage, step)
    base = base_of(run.start)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, keep_trailing_newline=True
    )
    text = environment.get_template("model_card.md.j2").render(
        title=title,
        place=name or folder.name.removesuffix(".partial"),
        adapter=adapter,
        lead=_lead(stage, step, adapter),
        base=_told(base),
        data=_data(run, stage, step),
        streams=_streams(run) if stage == "ppo" else [],
        rewards=_prm(run),
        figures=figures.rows,
        notes=figures.notes,
        training=_training(run, stage, step),
        changed=[f"{o} = {_local(v)}" for o, v, _ in changed(run.config) if not o.startswith(APART)],
    )
    head = _head(base, figures, title, stage, adapter)
    (folder / CARD).write_text(f"---\n{head}\n---\n\n{text.rstrip()}\n", encoding="utf-8")


def base_of(start: CheckpointFolder | None) -> dict[str, str]:
    """Name of the checkpoint that a policy started from, `hub` where it is a name there, and its licence where it says
    so: in its model card, or in the metadata of a GGUF file. {} for a policy from scratch."""
    if start is None:
        return {}
    on_hub = HUB_NAME.fullmatch(start.name) is not None and not Path(start.name).exists() and "/" in start.name
    found = {"name": start.name if on_hub else _local(start.name)}
    if on_hub:
        found["hub"] = start.name.partition("@")[0]
    if isinstance(start, GgufCheckpoint):
        licence = start.model.file.metadata.get("general.license")
    else:
        licence = _licence_in(start.path / CARD, found.get("hub"))
    return found | ({"license": str(licence)} if licence else {})


def _licence_in(card: Path, hub: str | None) -> Any:
    """What a model card says; that of a hub model is read where the hub's cache has it."""
    from huggingface_hub import metadata_load, try_to_load_from_cache

    if hub and not card.is_file():
        cached = try_to_load_from_cache(hub, CARD)
        card = Path(cached) if isinstance(cached, str) else card
    try:
        found = metadata_load(card) if card.is_file() else None
    except Exception:  # a damaged head may raise any error of the YAML library; then the licence is not known
        return None
    return (found or {}).get("license")


def _head(base: dict[str, str], figures: Figures, title: str, stage: str, adapter: bool) -> str:
    """The metadata that the hub reads."""
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        base_model=base.get("hub"),
        license=base.get("license"),
        library_name="peft" if adapter else "transformers",
        pipeline_tag="text-generation",
        tags=["stepjax", *(["reinforcement-learning"] if stage == "ppo" else [])],
        model_name=title,
        eval_results=figures.results or None,
    )
    return str(data.to_yaml()).strip()


def _lead(stage: str, step: int | None, adapter: bool) -> str:
    what = "Adapters (PEFT) of a language model" if adapter else "A language model"
    if step is None:
        return f"{what}, as it was loaded by stepjax {version('stepjax')}: not trained."
    how = HOW[stage]
    return f"{what}, trained by {how} with stepjax {version('stepjax')}."


def _told(base: dict[str, str]) -> str:
    if not base:
        return "None: trained from random parameters."
    licence = base.get("license")
    told = f"licence: {licence}" if licence else "its licence is not stated there: look it up before you use this model"
    return f"`{base['name']}`; {told}."


def _data(run: Run, stage: str, step: int | None) -> list[str]:
    """The task and its files, with the fingerprints that the checkpoint keeps; a checkpoint as loaded saw none here."""
    if step is None:
        return ["none here; see the base model"]
    record = None if step is None else origin.read(stage_folder(run, stage) / str(step))
    prints = {} if record is None else record.parts.get("data", {})
    lines = [f"problems: task `{run.task.name}`" + ("" if prints else _sources(run))]
    lines += [f"`{_local(name)}` ({p['size']:,} bytes, SHA-256 {p['sha256'][:16]}…)" for name, p in prints.items()]
    return lines


def _sources(run: Run) -> str:
    names = [_local(name) for name in run.task.files()] if isinstance(run.task, ReadsFiles) else []
    return f": {', '.join(names)}" if names else ", generated by code"


def _streams(run: Run) -> list[list[str]]:
    return [
        [name, f"`{_local(o.function) or o.signal}`", str(o.horizon), f"{o.weight:g}", f"`{o.estimator}`"]
        for name, o in run.config.ppo.streams.items()
    ]


def _prm(run: Run) -> str:
    """Where scores of a process reward model came from."""
    prm = run.config.prm
    if prm.path:
        return f"Step scores are those of the process reward model `{_local(prm.path)}` ({prm.convention})."
    if not any(map(reads_prm, run.config.ppo.streams.values())):
        return ""
    labels = f"labelled steps, `{_local(prm.data)}`" if prm.data else "steps that the task's verifier rated"
    return f"Step scores are those of a process reward model that was trained on {labels} (target: {prm.target})."


def _training(run: Run, stage: str, step: int | None) -> list[str]:
    config = run.config
    lines = ["none"] if step is None else [f"stage {stage}, step {step}, seed {config.seed}"]
    if stage == "ppo":
        lines.append(f"{config.ppo.prompts} prompts × {config.ppo.samples} responses a round")
    if config.lora.rank:
        lines.append(f"adapters of rank {config.lora.rank}, alpha {config.lora.alpha:g}")
    versions = [f"{name} {found}" for name in PACKAGES if (found := _version(name))]
    commit = str(code_version().get("commit") or "")
    code = f" (commit {commit})" if commit else ""
    return [*lines, f"exported with Python {platform.python_version()}, {', '.join(versions)}{code}"]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _local(value: Any) -> str:
    """A value as text, folders of this machine left out."""
    return _ABOVE.sub("", str(value))

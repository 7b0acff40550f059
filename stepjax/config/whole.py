"""The whole config, and its options by their dotted names."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from stepjax.config.bench import BenchOptions
from stepjax.config.data import DataOptions
from stepjax.config.environment import EnvironmentOptions
from stepjax.config.eval import EvalOptions
from stepjax.config.export import ExportOptions
from stepjax.config.improve import ImproveOptions
from stepjax.config.label import LabelOptions
from stepjax.config.log import LogOptions
from stepjax.config.mesh import DistributedOptions, MeshOptions
from stepjax.config.model import LoRAOptions, ModelOptions
from stepjax.config.option import option, section
from stepjax.config.ppo import PPOOptions
from stepjax.config.prm import PRMOptions
from stepjax.config.prompt import PromptOptions
from stepjax.config.sample import SampleOptions
from stepjax.config.search import SearchOptions
from stepjax.config.sft import SFTOptions
from stepjax.config.streams import StreamOptions
from stepjax.config.task import TaskOptions, TokenizerOptions

REMOVED = {"ppo.growths": "the cache follows the tokens that responses have by itself"}
"""Options that there were, by their dotted names, and why they are no longer needed."""


@dataclass(frozen=True)
class Config:
    """A whole run: `stepjax quickstart` runs `stages` in order, the other commands run one of them."""

    seed: int = option(0, "seed of everything random in the run", least=0, below=2**31)
    stages: tuple[str, ...] = option(
        ("sft", "prm", "ppo"),
        "stages of quickstart, in order: any of sft, label (`stepjax label`), prm, improve, ppo and eval; ppo starts "
        "from the policy of sft, not from that of improve",
        choices=("sft", "label", "prm", "improve", "ppo", "eval"),
    )
    base: str = option("", "another run's work directory, for the tokenizer and the stages that are not trained here")
    from_base: tuple[str, ...] = option(
        (),
        "stages that must have been trained before, in `base` or here: a run that would start without one of them, "
        "from model.path as it is, is refused",
        choices=("sft", "prm"),
        resumable=True,
    )
    profile: str = option(
        "",
        "START:STOP: the updates or rounds of each stage (from 1, without STOP) to trace into WORKDIR/profile, for "
        "TensorBoard, XProf or Perfetto; empty: none",
        resumable=True,
    )
    task: TaskOptions = section(TaskOptions, "where problems come from")
    prompt: PromptOptions = section(PromptOptions, "what the policy reads of a problem")
    tokenizer: TokenizerOptions = section(TokenizerOptions, "text to tokens")
    model: ModelOptions = section(ModelOptions, "shape of the decoder")
    lora: LoRAOptions = section(LoRAOptions, "low-rank adapters")
    mesh: MeshOptions = section(MeshOptions, "how devices share the work")
    distributed: DistributedOptions = section(DistributedOptions, "several processes, and failures of one")
    sft: SFTOptions = section(SFTOptions, "supervised training on demonstrations")
    prm: PRMOptions = section(PRMOptions, "process reward model")
    ppo: PPOOptions = section(PPOOptions, "step-level PPO")
    environment: EnvironmentOptions = section(EnvironmentOptions, "an environment that answers responses over turns")
    log: LogOptions = section(LogOptions, "where training is watched")
    export: ExportOptions = section(ExportOptions, "writing a policy for other software (stepjax export)")
    eval: EvalOptions = section(EvalOptions, "measuring before and after")
    sample: SampleOptions = section(SampleOptions, "responses to a file (stepjax sample)")
    search: SearchOptions = section(SearchOptions, "search over steps (stepjax search)")
    improve: ImproveOptions = section(ImproveOptions, "expert iteration: search, training on what it found, again")
    data: DataOptions = section(DataOptions, "reading step-labelled files (stepjax data)")
    label: LabelOptions = section(LabelOptions, "automatic step labels (stepjax label)")
    bench: BenchOptions = section(BenchOptions, "timing the programs of a run (stepjax bench)")


def options_of(cls: type, prefix: str = "") -> list[tuple[str, dataclasses.Field]]:
    """Every option below a section: dotted name and field, in order of declaration."""
    found: list[tuple[str, dataclasses.Field]] = []
    for f in dataclasses.fields(cls):
        kind = f.type if isinstance(f.type, type) else None
        if kind is not None and dataclasses.is_dataclass(kind):
            found += options_of(kind, f"{prefix}{f.name}.")
        else:
            found.append((prefix + f.name, f))
    return found


def resumable_options() -> set[str]:
    """Dotted names of the options that may change, or be gone, when a work directory is continued."""
    return {name for name, f in options_of(Config) if f.metadata["resumable"]} | set(REMOVED)


def default_option(name: str) -> Any:
    """The default of an option by its dotted name, a stream's by any stream's name; KeyError: no such option."""
    value: Any = Config()
    parts = name.split(".")
    if parts[:2] == ["ppo", "streams"] and len(parts) == 4:
        value, parts = StreamOptions(), parts[3:]
    for part in parts:
        if not dataclasses.is_dataclass(value) or not hasattr(value, part):
            raise KeyError(name)
        value = getattr(value, part)
    return value

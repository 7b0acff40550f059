"""What every stage of a run shares: work directory, mesh, task, tokenizer, step splitter, models."""

import dataclasses
import functools
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from stepjax.config import Config, LoRAOptions, ModelOptions
from stepjax.data.framing import Framing
from stepjax.data.tokenizers import load_tokenizer, train_bpe
from stepjax.errors import NonFiniteError, UserError
from stepjax.learners.ppo import value_heads
from stepjax.measures.step_classes import CLASSES, NEUTRAL
from stepjax.models import Critics, DecoderConfig, Definition, LanguageModel, ScoreModel, StepReader
from stepjax.models.backends import choose_attention, suits_apart
from stepjax.models.checkpoint_folder import CheckpointFolder
from stepjax.models.lora import LoRA
from stepjax.models.trainable import Trainable, adapters_and_heads, without_adapters
from stepjax.parallel import fetch, is_main_process, key_on, put, replicated
from stepjax.programs import Program
from stepjax.runs.base import SHAPE
from stepjax.runs.start import entries_of
from stepjax.steps import StepSplitter
from stepjax.tasks.base import Task
from stepjax.tasks.hooks import TokenizerTexts
from stepjax.tasks.prompts import Prompt
from stepjax.tasks.registry import task_entry
from stepjax.workdir.fingerprints import Print


@dataclasses.dataclass(frozen=True)
class Run:
    """The fixed environment of a run: folder, mesh, task, tokenizer and models.

    Attributes:
      workdir: the work directory, opened and locked.
      framing: what begins a prompt and what ends a response.
      vocab: rows of the embedding: the tokenizer's entries (or the checkpoint's rows), rounded up so that a mesh can
        divide them.
      start: the checkpoint that the policy starts from, where it does not start from scratch.
      prints: fingerprints that were taken in this command, by the names of the files.
    """

    config: Config
    workdir: Path
    mesh: Mesh
    task: Task
    tokenizer: Any
    framing: Framing
    splitter: StepSplitter
    vocab: int
    start: CheckpointFolder | None = None
    prints: dict[str, Print] = dataclasses.field(default_factory=dict, compare=False, repr=False)

    @functools.cached_property
    def prompt(self) -> Prompt:
        """Problems to what the policy reads."""
        return Prompt(self.config.prompt, self.framing, self.task)

    @functools.cached_property
    def policy(self) -> Definition[LanguageModel]:
        return Definition(lambda rngs: LanguageModel(self._decoder, rngs))

    @functools.cached_property
    def prm(self) -> Definition[ScoreModel] | Definition[StepReader]:
        found: Any = Definition(self._make_prm)
        return found

    def _make_prm(self, rngs: nnx.Rngs) -> ScoreModel | StepReader:
        layers, classes = self.config.prm.reader_layers, len(CLASSES)
        absent = NEUTRAL if self.config.prm.classes == 2 else None
        if layers:
            return StepReader(self._decoder, layers, classes, rngs, absent=absent)
        return ScoreModel(self._decoder, classes, rngs, absent=absent)

    @functools.cached_property
    def critic(self) -> Definition[ScoreModel] | Definition[Critics] | None:
        """The values of each reward stream; None where no stream has a critic."""
        heads = value_heads(self.config.ppo.streams)
        trunks = {head.trunk for head in heads}
        if trunks == {"none"}:
            return None

        def scores(outputs: int, rngs: nnx.Rngs) -> ScoreModel:
            return ScoreModel(self._decoder, outputs, rngs)

        if trunks <= {"shared", "none"}:
            return Definition(lambda rngs: scores(len(heads), rngs))
        return Definition(lambda rngs: Critics(heads, scores, self._make_prm, rngs))

    @property
    def _decoder(self) -> DecoderConfig:
        return dataclasses.replace(self.decoder, lora=self.policy_lora)

    @property
    def policy_lora(self) -> LoRA | None:
        """The adapters on the trunks; None where all parameters are trained."""
        options = self.config.lora
        return LoRA(options.rank, options.alpha, options.modules) if options.rank else None

    @functools.cached_property
    def decoder(self) -> DecoderConfig:
        """The decoder of policy, critic and process reward model, without adapters."""
        entries = None if self.start is None else entries_of(self.tokenizer, self.start)
        found = decoder_config(self.config.model, self.vocab, self.start, entries)
        attention = choose_attention(self.config.model.attention, found, self.mesh)
        asked = self.config.model.decode_layers
        apart = suits_apart(self.mesh.devices.flat[0].platform) if asked == "auto" else asked == "apart"
        return dataclasses.replace(found, attention=attention, decode_apart=apart)

    def of_stage(self, stage: str) -> "Run":
        """The run as a stage sees it: without adapters where the stage trains all parameters."""
        if not self.config.lora.rank or stage in self.config.lora.stages:
            return self
        return dataclasses.replace(self, config=dataclasses.replace(self.config, lora=LoRAOptions()))

    def trainable(self, stage: str, definition: Definition) -> Trainable:
        """The parameters that a stage trains and saves."""
        if not self.config.lora.rank:
            return Trainable(definition)
        return Trainable(definition, adapters_and_heads if stage in self.config.lora.stages else without_adapters)

    def key(self, name: str) -> jax.Array:
        """The random key of a purpose, on the mesh: one tree of keys from the run's seed."""
        purposes = [
            "policy",
            "prm",
            "critic",
            "rollout",
            "update",
            "prm_samples",
            "evaluate",
            "adapters",
            "completions",
            "implicit",
        ]
        return key_on(self.mesh, self.config.seed, purposes.index(name))

    @property
    def prm_data(self) -> str:
        """`prm.data`, with this run's folder for {workdir}."""
        return self.config.prm.data.replace("{workdir}", str(self.workdir))

    def checkpoint_folder(self, stage: str) -> Path:
        return self.workdir / "checkpoints" / stage


def decoder_config(
    options: ModelOptions, vocab: int, start: CheckpointFolder | None = None, entries: int | None = None
) -> DecoderConfig:
    """The decoder of the options, or that of the checkpoint `start` with `entries` ids in use; attention by XLA."""
    dtypes = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
    if options.head_dim % 2:
        raise UserError(f"config.model.head_dim: must be even (rotary positions turn pairs), not {options.head_dim}")
    if options.heads % options.kv_heads:
        raise UserError(f"config.model: heads={options.heads} must be a multiple of kv_heads={options.kv_heads}")
    changes: dict[str, Any] = {name: dtypes[getattr(options, name)] for name in ("dtype", "param_dtype")}
    changes["cache_dtype"] = jnp.dtype(options.cache_dtype) if options.cache_dtype else None
    changes |= {name: getattr(options, name) for name in ("unroll", "remat", "remat_policy")}
    if start is not None:
        return dataclasses.replace(start.decoder, vocab=vocab, entries=entries, **changes)
    shape = {name: getattr(options, name) for name in SHAPE if name != "path"}
    return DecoderConfig(vocab=vocab, **shape, **changes)


def make_tokenizer(config: Config, task: Task, workdir: Path, start: CheckpointFolder | None = None) -> Any:
    """The tokenizer in the work directory, or a new one that is then saved there in Hugging Face format."""
    folder = workdir / "tokenizer"
    if folder.exists():
        return load_tokenizer(folder)
    if config.base:
        tokenizer = load_tokenizer(Path(config.base) / "tokenizer")
    elif config.tokenizer.path:
        tokenizer = load_tokenizer(config.tokenizer.path)
    elif start is not None:
        tokenizer = load_tokenizer(start.path)
    elif (own := task_entry(config.task.name).tokenizer) is not None:
        tokenizer = own()
    else:
        tokenizer = train_bpe(_texts(task), config.tokenizer.vocab)
    if is_main_process():
        partial = folder.with_name("tokenizer.partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            tokenizer.save_pretrained(str(partial))
            partial.rename(folder)
        except OSError as error:
            raise UserError(f"{folder} cannot be written: {error.strerror or error}") from error
    return tokenizer


def _texts(task: Task) -> Iterable[str]:
    """What a tokenizer is trained on."""
    if isinstance(task, TokenizerTexts):
        return task.texts()
    return (problem.prompt + (problem.solution or problem.answer) for problem in task.problems("train"))


def embedding_rows(config: Config, entries: int) -> int:
    """Rows of the embedding: those that the config asks for, else the entries, rounded up so that a mesh divides them.

    UserError where the config asks for fewer than there are entries.
    """
    asked = config.model.vocab
    if asked and asked < entries:
        raise UserError(
            f"config.model.vocab={asked}: the tokenizer or checkpoint has {entries} entries; it must be at least that"
        )
    return -(-max(asked, entries) // 8) * 8


def device_scalar(value: int, mesh: Mesh) -> jax.Array:
    """An int32 on the mesh, moved there explicitly."""
    return put(np.int32(value), replicated(mesh))


def check_finite(figures: dict[str, Any], stage: str, step: int) -> None:
    """Stops the run at the first non-finite loss or gradient; earlier checkpoints stay as they are."""
    for name, value in figures.items():
        if isinstance(value, float) and ("loss" in name or "grad_norm" in name) and value - value != 0.0:
            raise _non_finite(stage, step, f"{name} is {value}")


def check_state(finite: Program, state: Any, stage: str, step: int) -> None:
    """Stops the run before a state with a non-finite number is saved; the loss shows it only one update later."""
    if not fetch(finite(state)):
        raise _non_finite(stage, step, "a parameter is not finite")


def _non_finite(stage: str, step: int, what: str) -> NonFiniteError:
    return NonFiniteError(
        f"{stage} step {step}: {what}; nothing was saved since the last checkpoint. "
        "Lower the learning rate, or look at the data of that step"
    )

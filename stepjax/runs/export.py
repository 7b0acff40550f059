"""`stepjax export`: the policy of a work directory as a folder that Hugging Face transformers loads."""

import dataclasses
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from stepjax.config import Config, ExportOptions
from stepjax.console.progress import say
from stepjax.errors import UserError
from stepjax.models.config import DecoderConfig
from stepjax.models.definition import Params
from stepjax.models.families import describe
from stepjax.models.lora import LoRA, merge
from stepjax.models.peft_adapter import save_adapter
from stepjax.models.pretrained import PretrainedModel, save_pretrained
from stepjax.options import from_dict
from stepjax.options.saved import CONFIG, read_saved
from stepjax.parallel import is_main_process, put, replicated
from stepjax.runs.model_card import write_card
from stepjax.runs.opening import open_run
from stepjax.runs.origin_parts import EXPORTING
from stepjax.runs.push import check_name, push
from stepjax.runs.setup import Run
from stepjax.runs.stages import has_stage, newest_policy, no_stage, policy_params, starts_loaded
from stepjax.runs.start import recall

EXPORTED = "exported"
"""In the work directory: policies as Hugging Face folders, of rounds by their numbers, of a push by their stage."""


def export(config: Config, workdir: Path, *, accept_changed: bool = False) -> Path:
    """Writes `config.export.out`, made from a stage of a work directory, and returns it.

    A model card is in it. With `config.export.push` it is uploaded, too. The model is that of the work directory's own
    options; of `config` only the sections export and mesh are used.
    `accept_changed`: goes on where the tokenizer, … is not the one that the checkpoints were made of.
    """
    _check_out(config.export)
    opened = open_run(saved_config(config, workdir), workdir, kinds=EXPORTING, accept_changed=accept_changed)
    with opened as run:
        stage = config.export.stage or newest_policy(run)
        if not has_stage(run, stage):
            raise no_stage(run, stage)
        out = Path(config.export.out) if config.export.out else workdir / EXPORTED / stage
        with whole_folder(out) as folder:
            seen = run.of_stage(stage)
            params = policy_params(seen, stage)
            if config.export.adapter:
                _write_adapter(run, folder, params, seen.policy_lora, stage)
            else:
                write_policy(seen, folder, params)
            if is_main_process():
                write_card(seen, stage, folder, adapter=config.export.adapter, name=config.export.push)
            if not config.export.out and out.exists():
                shutil.rmtree(out)
    if config.export.push and is_main_process():
        say(push(out, config.export.push, private=config.export.private))
    return out


def _check_out(options: ExportOptions) -> None:
    """UserError where no folder is named, it holds something, or the repository's name is none."""
    if options.push:
        check_name(options.push)
    elif not options.out:
        raise UserError("name the folder to write, --config.out=DIR, or the repository to push to, --push=OWNER/NAME")
    if options.out and (out := Path(options.out)).is_dir() and any(out.iterdir()):
        raise UserError(f"config.export.out={out}: this folder is not empty; name a new one")


def write_policy(run: Run, out: Path, params: Params) -> None:
    """Writes a policy, its adapters merged into the weights, with tokenizer, chat template and generation config.

    `run` is as the policy's stage sees it (`Run.of_stage`). Every process of a multi-host run takes part; the main one
    writes.
    """
    if run.policy_lora is not None:
        params = merge(params, run.policy_lora)
    model = _described(run, dataclasses.replace(run.decoder, lora=None), params)
    save_pretrained(model, out, run.tokenizer, _generation(run))


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """The folder to write to; it gets its name once it is whole: half of a model does not look like a whole one."""
    whole = out.absolute()  # "." has no name
    partial = whole.with_name(f"{whole.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        yield partial
        partial.rename(whole)
    except OSError as error:
        raise UserError(f"config.export.out={out}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_adapter(run: Run, out: Path, params: Params, lora: LoRA | None, stage: str) -> None:
    """Only the adapters, for the checkpoint that the run started from."""
    if lora is None:
        raise UserError(f"config.export.adapter: stage {stage} of {run.workdir} trained all parameters, not adapters")
    if run.start is None or not ("sft" in run.config.lora.stages or starts_loaded(run, "sft")):
        raise UserError(
            "config.export.adapter: these adapters need weights that stage sft trained, which PEFT does not have; "
            "export the whole policy instead"
        )
    save_adapter(out, params, lora, run.start.family, run.mesh, base=run.start.name)


def saved_config(config: Config, workdir: Path) -> Config:
    """The work directory's own options, with the sections export and mesh of `config`; UserError where it has none."""
    saved: Config = from_dict(read_saved(workdir / CONFIG).config)
    return dataclasses.replace(saved, export=config.export, mesh=config.mesh)


def _described(run: Run, decoder: DecoderConfig, params: Params) -> PretrainedModel:
    """The model with the config.json that describes it: that of the checkpoint it started from, or a new one."""
    ends = list(run.framing.ends)
    named = {"eos_token_id": ends[0] if len(ends) == 1 else ends}
    if (found := recall(run.workdir)) is not None:
        return PretrainedModel(decoder, found["config"] | named, params, run.mesh)
    if decoder.qk_norm and decoder.qkv_bias and not decoder.output_bias:
        # The one family with norms and biases has a bias on the output too: 0.
        zeros = put(jnp.zeros((decoder.layers, decoder.width), decoder.param_dtype), replicated(run.mesh))
        layers = params["trunk"]["layers"] | {"output_bias": zeros}
        params = params | {"trunk": params["trunk"] | {"layers": layers}}
        decoder = dataclasses.replace(decoder, output_bias=True)
    ids = _special(run) | named
    longest = run.config.ppo.prompt_tokens + run.config.ppo.max_new_tokens
    positions = max(longest, run.config.sft.row_tokens, run.config.prm.row_tokens)
    source = describe(decoder, positions=positions) | ids | {"vocab_size": len(run.tokenizer)}
    return PretrainedModel(decoder, source, params, run.mesh)


def _generation(run: Run) -> dict[str, Any]:
    """That of the checkpoint that the run started from, else how the policy was sampled in training.

    Either names every id that ended a response here, so that other software stops where training did.
    """
    ends = {"eos_token_id": list(run.framing.ends)}
    if found := (recall(run.workdir) or {}).get("generation_config"):
        return found | ends
    return (
        _special(run)
        | ends
        | {
            "do_sample": True,
            "temperature": run.config.ppo.temperature,
            "top_k": 0,
            "max_new_tokens": run.config.ppo.max_new_tokens,
        }
    )


def _special(run: Run) -> dict[str, int | None]:
    return {name: getattr(run.tokenizer, name) for name in ("bos_token_id", "pad_token_id")}

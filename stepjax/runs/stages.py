"""Parameters that one stage passes to the next: those of its last checkpoint, here or in the run's base."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stepjax.config import POLICIES, PRM_SCORERS
from stepjax.console.progress import say
from stepjax.errors import UserError
from stepjax.models import Definition
from stepjax.models.definition import Params
from stepjax.models.peft_adapter import load_adapter
from stepjax.models.pretrained import pretrained_params
from stepjax.models.trainable import Trainable, join, without_adapters
from stepjax.programs import abstract
from stepjax.rewards.reward_streams import reading, reads_prm
from stepjax.rewards.signal import RATING
from stepjax.runs.base import base_of, check_adapters, check_base_prm
from stepjax.runs.setup import Run
from stepjax.tasks.registry import open_environment
from stepjax.workdir.checkpoints import Checkpoints
from stepjax.workdir.folder import CONFIG

NEED_NO_POLICY = ("labels", "processbench", "prmbench")
"""Kinds of evaluation that do not sample responses."""


def has_stage(run: Run, stage: str) -> bool:
    """Whether a stage has left a checkpoint."""
    return _trained(run, stage) or starts_loaded(run, stage)


def _trained(run: Run, stage: str) -> bool:
    return _latest(run.checkpoint_folder(stage)) is not None or _in_base(run, stage) is not None


def starts_loaded(run: Run, stage: str) -> bool:
    """Whether the weights of `config.model.path` take the place of a stage that was left out."""
    return stage == "sft" and run.start is not None and not _trained(run, stage)


def _latest(folder: Path) -> int | None:
    if not folder.is_dir():
        return None
    with Checkpoints(folder) as checkpoints:
        return checkpoints.latest()


def _in_base(run: Run, stage: str) -> Path | None:
    """The stage's folder in the run that this one builds on, where it has one."""
    base = base_of(run.config, stage)
    if not base:
        return None
    folder = Path(base) / "checkpoints" / stage
    return folder if _latest(folder) is not None else None


def stage_folder(run: Run, stage: str) -> Path:
    """Where a stage's checkpoints are read: in this work directory if it has some, else in the base."""
    own = run.checkpoint_folder(stage)
    return own if _latest(own) is not None else _in_base(run, stage) or own


def policies_of(run: Run) -> list[str]:
    """The stages that have a policy, in the order of `POLICIES`. Where the run trained one on top of stage sft, what
    its base trained on top of that is no part of this run."""
    there = [stage for stage in POLICIES if has_stage(run, stage)]
    own = [stage for stage in POLICIES[1:] if _latest(run.checkpoint_folder(stage)) is not None]
    return [stage for stage in there if stage in (POLICIES[0], *own)] if own else there


def newest_policy(run: Run) -> str:
    """The stage whose policy is meant where none is named."""
    return next(reversed(policies_of(run)), POLICIES[0])


def no_stage(run: Run, stage: str) -> UserError:
    return UserError(
        f"{run.workdir}: stage {stage} has no checkpoint here; run `stepjax {stage}` with the same options first"
    )


def stage_params(run: Run, stage: str, definition: Definition, *keys: str) -> Params:
    """The parameters of a stage's last checkpoint, in their shards; `keys` lead to the role inside the saved state."""
    if not has_stage(run, stage):
        raise no_stage(run, stage)
    if starts_loaded(run, stage):
        return start_params(run, definition)
    if stage == "prm" and stage_folder(run, stage) != run.checkpoint_folder(stage):
        check_base_prm(run.config)
    trainable = run.trainable(stage, definition)
    like: Any = abstract(trainable.shapes, trainable.shardings(run.mesh))
    with Checkpoints(stage_folder(run, stage)) as checkpoints:
        return join(checkpoints.restore_part((*keys, "params"), like), frozen_params(run, stage, definition))


def policy_step(run: Run, stage: str) -> int | None:
    """The step of the checkpoint that `policy_params` reads; None where it is the checkpoint of `config.model.path`."""
    return _latest(stage_folder(run, stage))


def policy_params(run: Run, stage: str) -> Params:
    """The policy's parameters after one of `POLICIES`; the state of ppo holds those of other roles, too."""
    return stage_params(run, stage, run.policy, *(("policy",) if stage == "ppo" else ()))


def start_params(run: Run, definition: Definition) -> Params:
    """The weights of the checkpoint in their shards; adapters, where the definition has some, are those of
    `config.lora.path` or change nothing yet."""
    assert run.start is not None
    loaded = pretrained_params(run.start, dataclasses.replace(run.decoder, lora=None), run.mesh)
    trainable = Trainable(definition, without_adapters)
    if not trainable.frozen_shapes:
        return loaded
    if run.config.lora.path:
        lora = run.policy_lora
        assert lora is not None
        return join(loaded, load_adapter(run.config.lora.path, definition, lora, run.start.family, run.mesh))
    return join(loaded, trainable.init_frozen(run.key("adapters"), run.mesh))


def prm_start_params(run: Run, policy: Params | None = None) -> Params:
    """Fresh parameters of the process reward model, with the SFT policy's own where `prm.from_sft`.

    `policy`: those of the SFT, where they are loaded already.
    """
    options = run.config.prm
    given: dict[str, Params] = {}
    if options.from_sft:
        policy = policy or stage_params(run, "sft", run.policy)
        given = {"language": policy} if options.reader_layers else {"trunk": policy["trunk"]}
    return run.prm.sharded_init(run.key("prm"), run.mesh, **given)


def prm_params(run: Run) -> Params | None:
    """The process reward model where a stream needs one, or where monitoring it adds no cost; None: there is none."""
    needed = any(reads_prm(s) for s in run.config.ppo.streams.values())
    return stage_params(run, "prm", run.prm) if needed or has_stage(run, "prm") else None


def frozen_params(run: Run, stage: str, definition: Definition) -> Params:
    """The parameters that a stage leaves as they are; {} where there are none.

    They are the SFT policy's base weights, not copied, or, in a stage without adapters, new adapters that change
    nothing.
    """
    trainable = run.trainable(stage, definition)
    if not trainable.frozen_shapes:
        return {}
    if stage not in run.config.lora.stages:
        return trainable.init_frozen(run.key("adapters"), run.mesh)
    policy = base_params(run) if stage == "sft" else stage_params(run, "sft", run.policy)
    return trainable.frozen_of(policy if "trunk" in definition.shapes else {"language": policy})


def base_params(run: Run) -> Params:
    """The policy that stage sft starts from, where it trains adapters."""
    if run.start is not None:
        return start_params(run, run.policy)
    raise UserError(
        "config.lora.stages: sft has no pretrained base to put adapters on; name one in config.model.path, or leave "
        "sft out, so that it trains all parameters"
    )


def _without_verifier(stages: Sequence[str]) -> str:
    """How to train where the task cannot rate steps."""
    data = "or name labelled steps in config.prm.data"
    if "prm" not in stages:
        return f"reward the graded answer with signal='outcome', {data}"
    others = tuple(stage for stage in stages if stage not in ("prm", "eval"))
    return f"set --config.stages=\"{others}\" with the graded answer as a stream of signal='outcome', {data}"


def _check_stage(run: Run, stage: str, *, finished: bool) -> None:
    if not has_stage(run, stage):
        raise no_stage(run, stage)
    if starts_loaded(run, stage):
        return
    folder, workdir = stage_folder(run, stage), run.workdir
    last = run.config.sft.updates if stage == "sft" else run.config.prm.updates
    if folder != run.checkpoint_folder(stage):  # another run's, by its own options
        workdir = Path(base_of(run.config, stage))
        check_adapters(run.config, stage)
        last = json.loads((workdir / CONFIG).read_text())[stage]["updates"]
    step = _latest(folder)
    assert step is not None
    if finished and step < last:
        raise UserError(f"{workdir}: stage {stage} is at update {step} of {last}; finish it with `stepjax {stage}`")


def _check_trainable_prm(run: Run, stages: Sequence[str]) -> None:
    """UserError where a stream reads a PRM that is missing here and that `stepjax prm` could not train either."""
    prm = run.config.prm
    if has_stage(run, "prm") or prm.data or prm.target == "value" or _rates_steps(run):
        return
    stream = next(name for name, stream in run.config.ppo.streams.items() if reads_prm(stream))
    raise UserError(
        f"config.ppo.streams.{stream}: stage prm, whose scores it reads, needs a verifier of single steps, which task "
        f"{run.task.name} does not have; {_without_verifier(stages)}"
    )


def _rates_steps(run: Run) -> bool:
    return run.task.rate_steps(run.task.problems("train")[0], []) is not None


def check_stages(run: Run, stages: Sequence[str]) -> None:
    """UserError where an earlier stage is missing, or where the task does not support the stage.

    Says where training starts from the checkpoint of `model.path` as it is.
    """
    if "prm" in stages and run.config.prm.run:
        raise UserError(
            f"config.prm.run={run.config.prm.run}: stage prm would train another model than the one that it names; "
            "leave one of the two out"
        )
    for need in run.config.from_base:
        if need not in stages and not _trained(run, need) and {*stages} & {"prm", "improve", "ppo", "label"}:
            raise UserError(
                f"config.base: this config goes on from a stage {need} that another run trained; name that run's work "
                "directory, as in --config.base=runs/NAME"
            )
    streams = run.config.ppo.streams
    learned = any(reads_prm(stream) for stream in streams.values())
    needs = {"label": ["sft"], "prm": ["sft"], "ppo": ["sft", "prm"] if learned else ["sft"], "eval": ["sft"]}
    needs["improve"] = ["sft", "prm"] if run.config.search.prm in PRM_SCORERS else ["sft"]
    if run.config.eval.kind in NEED_NO_POLICY or (run.config.eval.kind == "prm" and run.config.eval.data):
        needs["eval"] = []
    if run.config.prm.data and not run.config.prm.from_sft:
        needs["prm"] = []
    if run.config.prm.path:  # rated by a public model: nothing is trained
        needs |= {"prm": [], "ppo": ["sft"], "improve": ["sft"]}
    if "label" in stages and run.config.label.method == "consensus":
        raise UserError("config.label.method=consensus: it needs no run; start it with `stepjax label`")
    for i, stage in enumerate(stages):
        for need in needs.get(stage, []):
            if need not in stages[:i]:
                if need == "prm" and stage == "ppo":
                    _check_trainable_prm(run, stages)
                _check_stage(run, need, finished=stage != "eval")
    starting = [stage for stage in stages if stage in ("prm", "improve", "ppo") and "sft" in needs[stage]]
    if starting and "sft" not in stages and starts_loaded(run, "sft"):
        say(f"stage {starting[0]} starts from {run.config.model.path} as it is: no stage sft here or in config.base")
    if "ppo" in stages and ("improve" in stages or _trained(run, "improve")):
        say(
            "stage ppo starts from the policy of stage sft, not of stage improve; to go on with that one, write it "
            "with `stepjax export --config.stage=improve --config.out=FOLDER` and start a run with "
            "--config.model.path=FOLDER and no stage sft"
        )
    rated = ["stage prm"] if "prm" in stages and run.config.prm.target != "value" and not run.config.prm.data else []
    rated = [] if run.config.prm.path else rated
    if "ppo" in stages:
        if run.config.environment.name:
            open_environment(run.config.environment)[0].close()
        rated += [f"config.ppo.streams.{name}" for name in reading(streams, RATING)]
        limits = reading(streams, "limit_kept")
        if limits and run.task.problems("train")[0].step_limit is None:
            raise UserError(
                f"config.ppo.streams.{limits[0]} needs prompts that state a step limit, which task {run.task.name} "
                "does not write here; register_chain does with config.task.register_chain.step_limit=True"
            )
    if rated and not _rates_steps(run):
        raise UserError(
            f"{rated[0]} needs a verifier of single steps, which task {run.task.name} does not have; "
            f"{_without_verifier(stages)}"
        )

"""Stage sft: supervised training of the policy on the task's demonstrations."""

import numpy as np

from stepjax.data.packing import Example, PackedBatches, pack_all
from stepjax.learners.supervised import put_batch
from stepjax.models.definition import Params
from stepjax.parallel import fetch
from stepjax.runs.setup import Run
from stepjax.runs.stages import start_params
from stepjax.runs.supervised import train
from stepjax.runs.supervised_programs import sft_programs
from stepjax.tasks.encoding import demonstration


def held_out_rows(run: Run) -> list[dict[str, np.ndarray]]:
    """Batches of the first demonstrations of the split valid: as many as `sft.valid_rows` rows hold."""
    options, problems = run.config.sft, run.task.problems("valid")
    examples = (
        demonstration(run.prompt, problem, prompt_loss=options.prompt_loss)
        for problem in (problems[i] for i in range(len(problems)))
        if problem.solution is not None
    )
    return pack_all(examples, rows=options.rows, width=options.row_tokens, most=options.valid_rows)


def train_sft(run: Run) -> Params:
    """Trains (or continues, or finds finished) the policy; returns its parameters."""
    programs = sft_programs(run)
    run, options = programs.run, run.config.sft
    problems = run.task.problems("train")

    def batches() -> PackedBatches:
        def encode(i: int) -> Example | None:
            problem = problems[i]
            if problem.solution is None:
                return None
            return demonstration(run.prompt, problem, prompt_loss=options.prompt_loss)

        return PackedBatches(encode, len(problems), rows=options.rows, width=options.row_tokens, seed=run.config.seed)

    packed = held_out_rows(run)

    def valid(params: Params) -> dict[str, float]:
        found = [fetch(programs.valid(params, put_batch(batch, run.mesh))) for batch in packed]
        tokens = np.array([f["tokens"] for f in found], np.float64)
        if not tokens.sum():
            return {}
        return {"loss": float(np.sum([f["loss"] for f in found] * tokens) / tokens.sum())}

    def initial() -> Params:
        if run.start is not None:
            return start_params(run, run.policy)
        return run.policy.sharded_init(run.key("policy"), run.mesh)

    return train(programs, "SFT", batches=batches, initial=initial, valid=valid)

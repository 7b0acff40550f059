"""Responses of a stage's policy to held-out problems, for evaluation."""

from stepjax.console.progress import progress
from stepjax.errors import UserError
from stepjax.parallel import batch_devices, key_on, only_asked_transfers
from stepjax.rollout.generate import RolloutShape
from stepjax.runs.responses import Response, ResponseSampler, eval_sampler
from stepjax.runs.setup import Run
from stepjax.runs.stages import has_stage, no_stage, stage_params
from stepjax.tasks.encoding import fitting_prompts


def sample_problems(run: Run, stage: str, *, each: int) -> list[Response]:
    """`each` responses to every problem of `eval.problems` and `eval.split`, those of a problem adjacent."""
    options, ppo = run.config.eval, run.config.ppo
    if not has_stage(run, stage):
        raise no_stage(run, stage)
    if each > 1 and options.temperature == 0:
        raise UserError("config.eval.temperature: at 0 all responses to a problem are the same; raise it")
    problems = run.task.problems(options.split)
    chosen = [problems[i] for i in range(min(options.problems, len(problems)))]
    prompts = fitting_prompts(run.tokenizer, chosen, width=ppo.prompt_tokens, where="config.ppo.prompt_tokens")
    rows = [i for i in range(len(prompts.problems)) for _ in range(each)]
    devices = batch_devices(run.mesh)
    shape = RolloutShape.of_many(len(rows), options.rows, ppo.prompt_tokens, ppo.max_new_tokens, devices)
    sampler = ResponseSampler(run, shape, eval_sampler(options))
    params = stage_params(run, stage, run.policy, *(("policy",) if stage == "ppo" else ()))
    key = key_on(run.mesh, options.seed)
    with progress("Responses", len(rows), "responses") as bar, only_asked_transfers():
        return sampler.many(params, prompts, rows, key, bar)

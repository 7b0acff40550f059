"""Stage prm: a three-class process reward model learns from labelled steps.

Labels of steps and prefixes come from the task's exact judge, which plays the part of human annotators: of
demonstrations and of responses sampled from the SFT policy. After this stage the judge only measures. Where
`config.prm.data` names a dataset, its labels are learned instead (`prm_data.py`).
"""

import dataclasses
import functools

import numpy as np

from stepjax.console.progress import progress, say
from stepjax.data.packing import Example, PackedBatches
from stepjax.errors import UserError
from stepjax.learners.supervised import prm_sums, reader_sums
from stepjax.models.definition import Params
from stepjax.parallel import batch_devices
from stepjax.rollout.generate import RolloutShape
from stepjax.runs.classifier import StepClassifier, classification_report
from stepjax.runs.prm_data import train_on_records
from stepjax.runs.responses import Response, ResponseSampler, ppo_sampler, read_response
from stepjax.runs.setup import Run
from stepjax.runs.stages import stage_params
from stepjax.runs.supervised import train
from stepjax.tasks.encoding import encode, fitting_prompts, labelled_steps


def train_prm(run: Run) -> Params:
    """Trains (or continues, or finds finished) the process reward model; returns its parameters."""
    run = run.of_stage("prm")
    if run.config.prm.path:
        say(f"PRM: {run.config.prm.path} judges as it is; there is nothing to train")
        return {}
    if run.config.prm.data:
        return train_on_records(run)
    options, ppo = run.config.prm, run.config.ppo
    sft = stage_params(run, "sft", run.policy)
    at_once, devices = run.config.eval.rows, batch_devices(run.mesh)
    shape = RolloutShape.of_many(4 * at_once, at_once, ppo.prompt_tokens, ppo.max_new_tokens, devices)
    sampler = ResponseSampler(run, shape, ppo_sampler(ppo))
    held_out: list[Response] = []
    classifier = StepClassifier(run, rows=options.rows, width=options.row_tokens)

    def sample(split: str, first: int, count: int, label: str) -> list[Response]:
        problems = run.task.problems(split)
        chosen = [problems[(first + i) % len(problems)] for i in range(count)]
        prompts = fitting_prompts(run.tokenizer, chosen, width=ppo.prompt_tokens, where="config.ppo.prompt_tokens")
        with progress(label, len(prompts.problems), unit="responses") as bar:
            rows = range(len(prompts.problems))
            return sampler.many(sft, prompts, rows, run.key("prm_samples"), bar)

    def batches() -> PackedBatches:
        problems = run.task.problems("train")
        examples: list[Example] = []
        for i in range(min(options.demonstrations, len(problems))):
            problem = problems[i]
            if problem.solution is not None:
                prompt, ids = encode(run.tokenizer, problem.prompt), encode(run.tokenizer, problem.solution)
                response = read_response(run, problem, prompt, [*ids, run.eos], True)
                examples.append(labelled_example(run, response, every_token=options.every_token))
        if options.samples:
            responses = sample("train", options.demonstrations, options.samples, "PRM data")
            examples += [labelled_example(run, r, every_token=options.every_token) for r in responses]
        return PackedBatches(
            examples.__getitem__, len(examples), rows=options.rows, width=options.row_tokens, seed=run.config.seed + 1
        )

    def valid(params: Params) -> dict[str, float]:
        if not options.valid_samples or not run.task.problems("valid"):
            return {}
        if first := not held_out:
            held_out.extend(sample("valid", 0, options.valid_samples, "PRM held-out"))
        figures = classification_report(*classifier(params, held_out))
        for sentence in classifier.told_left_out() if first else ():
            say(f"PRM held-out: {sentence}")
        return {"macro_f1": figures["macro_f1"], "accuracy": figures["accuracy"]}

    def initial() -> Params:
        given: dict[str, Params] = {}
        if options.from_sft:
            given = {"language": sft} if options.reader_layers else {"trunk": sft["trunk"]}
        return run.prm.sharded_init(run.key("prm"), run.mesh, **given)

    sums = functools.partial(reader_sums, lm_loss=options.lm_loss) if options.reader_layers else prm_sums
    return train(run, "prm", "PRM", run.prm, sums, options, batches=batches, initial=initial, valid=valid)


def labelled_example(run: Run, response: Response, *, every_token: bool = False) -> Example:
    """The response's steps with the classes of their exact ratings; a step cut off by truncation has no label.

    The label stands on a step's last token, or on `every_token` of it.
    """
    target, judgements = run.config.prm.target, response.judgements
    unknown = judgements is None or (target == "prefix" and any(j.correct is None for j in judgements))
    if unknown and target != "value":
        raise UserError(
            f"task {run.task.name}: it has no step verifier to label a process reward model's data with; "
            "config.prm.target=value needs graded answers alone"
        )
    ends, classes = step_classes(run, response)
    example = labelled_steps(response.prompt, response.tokens, ends, classes)
    return _on_every_token(run, response, example) if every_token else example


def _on_every_token(run: Run, response: Response, example: Example) -> Example:
    """Each label on all tokens of its step; the value of a prompt is the response's, read at its last token."""
    targets, first = example.targets.copy(), len(response.prompt)
    index, _ = run.splitter.split_host(response.tokens)
    for at in np.flatnonzero(example.targets >= 0):
        targets[first:][index == index[at - first]] = example.targets[at]
    if run.config.prm.target == "value":
        targets[first - 1] = 2 * response.correct
    return dataclasses.replace(example, targets=targets)


def step_classes(run: Run, response: Response) -> tuple[np.ndarray, list[int]]:
    """Which response tokens end a judged step (bool[n]), and those steps' classes (0 bad, 1 neutral, 2 good).

    What the classes say is `config.prm.target`: the step's own rating; whether all steps up to it are right; or whether
    the response that it belongs to ends in the right answer, whose probability is the prefix's value under the policy.
    """
    index, end = run.splitter.split_host(response.tokens)
    judgements = response.judgements or []
    if not response.finished and len(end):
        end[-1] = False
    if run.config.prm.target == "value":
        return end, [2 * response.correct] * int(end.sum())
    if not judgements:
        end[:] = False
    classes = [j.rating + 1 for j in judgements]
    if run.config.prm.target == "prefix":
        classes = [2 * int(right) for right in np.cumprod([bool(j.correct) for j in judgements])]
    return end, [classes[min(i, len(classes) - 1)] for i in index[end]]

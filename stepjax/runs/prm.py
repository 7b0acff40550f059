"""Stage prm: training of a process reward model on labelled steps.

Labels of steps and prefixes come from the task's exact verifier, in place of human annotators, for demonstrations and
for responses sampled from the SFT policy. After this stage the verifier is only used for measuring. Where
`config.prm.data` names a dataset, the labels come from there (`prm_data.py`).
"""

from stepjax.console.progress import progress, say
from stepjax.data.packing import Example, PackedBatches
from stepjax.models.definition import Params
from stepjax.runs.classifier import StepClassifier, classification_report
from stepjax.runs.prm_data import train_on_records
from stepjax.runs.prm_labels import labelled_example
from stepjax.runs.response_sampling import ResponseSampler, make_sampler
from stepjax.runs.responses import Response, read_response
from stepjax.runs.setup import Run
from stepjax.runs.stages import prm_start_params, stage_params
from stepjax.runs.supervised import train
from stepjax.runs.supervised_programs import prm_programs
from stepjax.tasks.encoding import fitting_prompts


def train_prm(run: Run) -> Params:
    """Trains (or continues, or finds finished) the process reward model; returns its parameters."""
    if run.config.prm.path:
        say(f"PRM: {run.config.prm.path} scores the steps; there is nothing to train")
        return {}
    if run.config.prm.data:
        return train_on_records(run)
    programs = prm_programs(run)
    run = programs.run
    options, ppo = run.config.prm, run.config.ppo
    sft = stage_params(run, "sft", run.policy)
    sampler = ResponseSampler.of_many(run, 4 * run.config.eval.rows, make_sampler(ppo))
    held_out: list[Response] = []
    classifier = StepClassifier(run, rows=options.rows, width=options.row_tokens)

    def sample(split: str, first: int, count: int, label: str) -> list[Response]:
        problems = run.task.problems(split)
        chosen = [problems[(first + i) % len(problems)] for i in range(count)]
        prompts = fitting_prompts(run.prompt, chosen, width=ppo.prompt_tokens, where="config.ppo.prompt_tokens")
        with progress(label, len(prompts.problems), unit="responses") as bar:
            rows = range(len(prompts.problems))
            return sampler.many(sft, prompts, rows, run.key("prm_samples"), bar)

    def batches() -> PackedBatches:
        problems = run.task.problems("train")
        examples: list[Example] = []
        for i in range(min(options.demonstrations, len(problems))):
            problem = problems[i]
            if problem.solution is not None:
                prompt, ids = run.prompt(problem), run.prompt.response(problem.solution)
                response = read_response(run, problem, prompt, ids, True)
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
        figures = classification_report(*classifier(params, held_out), classes=options.classes)
        for sentence in classifier.told_left_out() if first else ():
            say(f"PRM held-out: {sentence}")
        return {"macro_f1": figures["macro_f1"], "accuracy": figures["accuracy"]}

    return train(programs, "PRM", batches=batches, initial=lambda: prm_start_params(run, sft), valid=valid)

"""Stage improve: expert iteration. A round searches fresh problems with its policy, and trains the next policy on what
the search found [Anthony 2017; Zelikman 2022; Singh 2023].

A round that is interrupted goes on where it was: its search with the problems that its file lacks, its training from
the last checkpoint. Round r ends with update r · updates of the stage, of whose checkpoints the newest are kept.
"""

import functools
from collections.abc import Callable

from stepjax.console.progress import say
from stepjax.data.packing import PackedBatches
from stepjax.distributed.watch import activity
from stepjax.errors import UserError
from stepjax.improve.rounds import Searches, learned
from stepjax.improve.targets import TARGETS
from stepjax.improve.values import train_values, value_programs, value_stage, write_values
from stepjax.models.definition import Params
from stepjax.runs.check import check_packed
from stepjax.runs.response_sampling import ResponseSampler, first_prompts, make_sampler
from stepjax.runs.setup import Run
from stepjax.runs.stages import stage_params
from stepjax.runs.supervised import train
from stepjax.runs.supervised_programs import SupervisedPrograms, improve_programs
from stepjax.search.command import check_search
from stepjax.search.methods import METHODS, Method, check_method
from stepjax.search.scorers import check_scorer
from stepjax.search.searcher import longest_response
from stepjax.workdir.checkpoints import Checkpoints

STAGE = "improve"


def check_improve(run: Run) -> None:
    """UserError where the options of the search and of what is learned from it contradict each other."""
    options, search = run.config.improve, run.config.search
    check_packed(run.config, STAGE, run.mesh)
    check_search(run.config)
    if search.temperature == 0:
        raise UserError(
            "config.search.temperature: at 0 the search finds what the policy writes anyway, from which stage improve "
            "learns nothing; raise it"
        )
    method = check_method(search, longest_response(run.config))
    check_scorer(run, search, stepwise=method.stepwise)
    if TARGETS[options.targets].visits and not method.visits:
        raise UserError(
            f"config.improve.targets={options.targets}: method={search.method} has no trees with visits; take "
            f"config.search.method={_counting()}, or another target"
        )
    if TARGETS[options.targets].visits and not method.several(search):
        raise UserError(
            f"config.improve.targets={options.targets}: with one sample of each step there is nothing to choose from; "
            "raise config.search.width"
        )
    _check_lora(run)
    if options.prm:
        _check_values(run, method)


def _counting() -> str:
    return " or ".join(name for name, method in METHODS.items() if method.visits)


def _check_lora(run: Run) -> None:
    lora = run.config.lora
    if lora.rank and "sft" in lora.stages and STAGE not in lora.stages:
        raise UserError("config.lora.stages: stage sft has adapters, so stage improve must have some; add improve")


def _check_values(run: Run, method: Method) -> None:
    prm, search = run.config.prm, run.config.search
    for option, wrong, cure in (
        (f"search.method={search.method}", not method.visits, f"it backs no values up; take {_counting()}"),
        (f"search.prm={search.prm}", search.prm != "value", "the search would not read the new values; take value"),
        (
            f"prm.classes={prm.classes}",
            prm.classes != 2,
            "a value is the probability of one of two classes; set it to 2",
        ),
        ("prm.path", bool(prm.path), "a public model is not trained; leave one of the two out"),
        (
            f"lora.rank={run.config.lora.rank}",
            run.config.lora.rank > 0,
            "value models have no adapters; set it to 0",
        ),
    ):
        if wrong:
            raise UserError(f"config.improve.prm=True with config.{option}: {cure}")


def train_improve(run: Run) -> Params:
    """Runs (or continues, or finds finished) the rounds; returns the last one's policy."""
    check_improve(run)
    options = run.config.improve
    programs, searches = improve_programs(run), Searches(run)
    values = functools.cache(lambda: value_programs(run))
    valid = _held_out(programs.run)
    start = functools.cache(lambda: stage_params(programs.run, "sft", programs.definition))
    reference = start() if options.kl else None
    with Checkpoints(run.checkpoint_folder(STAGE)) as checkpoints:
        # Of the newest one that is whole: where a round's end is damaged, the round before goes on.
        found = checkpoints.resume(programs.abstract_state)
        done = 0 if found is None else int(found[1]["step"])
        del found
    params: Params = {}
    for number in range(1, options.rounds + 1):
        before = (number - 1) * options.updates
        last = number == options.rounds
        if done < before + options.updates:
            activity.now(f"round {number} of stage improve")
            _search(searches, number, values, begun=done > before)
        elif not last:
            continue
        params = _train(programs, number, valid, start, reference)
    return params


def _search(searches: Searches, number: int, values: Callable[[], SupervisedPrograms], *, begun: bool) -> None:
    """A round's search, and the values of its trees.

    Args:
      values: what value models are trained with.
      begun: training on the round has begun.
    """
    run = searches.run
    stage = STAGE if number > 1 else "sft"
    if run.config.improve.prm and number > 1 and not begun:
        train_values(values(), number - 1)
    searches(number, stage, value_stage(number - 1 if run.config.improve.prm else 0), begun=begun)
    if METHODS[run.config.search.method].visits:
        write_values(run, number)


def _train(
    programs: SupervisedPrograms,
    number: int,
    valid: Callable[[Params], dict[str, float]],
    start: Callable[[], Params],
    reference: Params | None,
) -> Params:
    """The training of a round."""
    run, options = programs.run, programs.run.config.improve
    found = functools.cache(lambda: learned(run, number))

    def batches() -> PackedBatches:
        examples = found().examples
        rows, width, seed = options.rows, options.row_tokens, run.config.seed + number
        return PackedBatches(examples.__getitem__, len(examples), rows=rows, width=width, seed=seed, values=True)

    def initial() -> Params:
        return start() if number == 1 or options.restart else stage_params(run, STAGE, programs.definition)

    return train(
        programs,
        f"Improve round {number}",
        batches=batches,
        initial=initial,
        valid=valid,
        before=(number - 1) * options.updates,
        about=lambda: found().figures,
        reference=reference,
    )


def _held_out(run: Run) -> Callable[[Params], dict[str, float]]:
    """The share of right answers to held-out problems, sampled as `config.eval` says."""
    count = run.config.improve.valid_problems
    if not count or not run.task.problems("valid"):
        return lambda params: {}
    prompts = first_prompts(run, "valid", count)
    if prompts.left_out:
        say(f"improve held-out: {prompts.left_out} problems longer than ppo.prompt_tokens were left out")
    sampler = functools.cache(
        lambda: ResponseSampler.of_many(run, len(prompts.problems), make_sampler(run.config.eval))
    )

    def valid(params: Params) -> dict[str, float]:
        answered = sampler().many(params, prompts, range(len(prompts.problems)), run.key("evaluate"))
        return {"accuracy": sum(r.correct for r in answered) / len(answered)}

    return valid

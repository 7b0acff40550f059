"""`stepjax search`: trees and answers of a policy's search, appended to a file that a later call continues."""

import dataclasses
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from stepjax.config import Config, SearchOptions
from stepjax.console.progress import progress, say
from stepjax.distributed.session import session
from stepjax.errors import UserError
from stepjax.models.flops import product_params
from stepjax.parallel import is_main_process, only_asked_transfers
from stepjax.report.trees import write_search
from stepjax.runs.first_prompt import tell_first_prompt
from stepjax.runs.opening import open_run
from stepjax.runs.origin_parts import READING
from stepjax.runs.setup import Run
from stepjax.runs.stages import has_stage, no_stage, policy_params, policy_step
from stepjax.search.answers import Answers
from stepjax.search.ask import NUMBERS, Asked, of_problem
from stepjax.search.beam import Candidate
from stepjax.search.continuations import live_answers
from stepjax.search.explorer import Explorer
from stepjax.search.file import SearchFile
from stepjax.search.flow import flow
from stepjax.search.methods import check_method, searched
from stepjax.search.records import Searched, searched_record
from stepjax.search.scorers import Scorer, search_scorer
from stepjax.search.ties import KeyedTies
from stepjax.tasks.encoding import Prompts, fitting_prompts

MOST_PROBLEMS = (1 << 31) // NUMBERS
FREE = ("rows", "out", "problems")
"""Options that the search of a problem does not depend on."""


def run_search(config: Config, workdir: Path, *, accept_changed: bool = False) -> Path:
    """Searches by `config.search`, prints accuracy beside cost, and returns the page beside the file (the file itself
    on other processes than the first).

    `accept_changed`: as in `open_run`.
    """
    opened = open_run(config, workdir, kinds=READING, accept_changed=accept_changed)
    with session(config.distributed), opened as run:
        tell_first_prompt(run)
        return search(run)


def search(run: Run) -> Path:
    options = run.config.search
    check_search(run.config)
    longest = options.max_new_tokens or run.config.ppo.max_new_tokens
    method = check_method(options, longest)
    stage = options.stage or ("ppo" if has_stage(run, "ppo") else "sft")
    if not has_stage(run, stage):
        raise no_stage(run, stage)
    scorer = search_scorer(run, options, stepwise=method.stepwise)
    problems = run.task.problems(options.split)
    count = min(options.problems or len(problems), len(problems))
    prompts = fitting_prompts(run.prompt, [problems[i] for i in range(count)], width=2**31, where="config.search")
    if len(prompts.problems) > MOST_PROBLEMS:
        raise UserError(f"config.search.problems: at most {MOST_PROBLEMS} have random keys of their own; name fewer")
    if len({problem.id for problem in prompts.problems}) < len(prompts.problems):
        raise UserError(f"config.search.split={options.split}: two problems have the same id")
    out = Path(options.out) if options.out else run.workdir / "search" / f"{options.method}-{options.split}.jsonl"
    with SearchFile(out, _made_with(run, stage, longest), primary=is_main_process()) as file:
        waiting = [i for i, problem in enumerate(prompts.problems) if problem.id not in file.done]
        start = len(prompts.problems) - len(waiting)
        with progress("Search", len(prompts.problems), "problems", start=start) as bar, only_asked_transfers():
            for record in _records(run, stage, prompts, scorer, waiting) if waiting else ():
                file.append([record])
                bar.advance(right=file.right / len(file.done))
        file.show(_title(options, scorer))
    return write_search(out) if is_main_process() else out


def check_search(config: Config) -> None:
    """UserError where the policy would write without its environment, or the page would replace the records."""
    for name, value in (("environment.name", config.environment.name), ("ppo.environment", config.ppo.environment)):
        if value:
            raise UserError(
                f"config.{name}={value}: a search does not ask environments; leave it out to search without it"
            )
    if Path(config.search.out).suffix == ".html":
        raise UserError(
            f"config.search.out={config.search.out}: the page stands beside the records; name a .jsonl file"
        )


def _made_with(run: Run, stage: str, longest: int) -> dict[str, Any]:
    """What the records depend on."""
    options = {k: v for k, v in dataclasses.asdict(run.config.search).items() if k not in (*FREE, "stage")}
    return options | {
        "policy": f"{stage} {policy_step(run, stage) or run.config.model.path}",
        "process_reward_model": run.config.prm.path or policy_step(run, "prm"),
        "workdir": str(run.workdir.absolute()),
        "max_new_tokens": longest,
        "prompt": dataclasses.asdict(run.config.prompt),
    }


def _title(options: SearchOptions, scorer: Scorer) -> str:
    size = {"puct": f"sims={options.sims}"}.get(options.method, f"n={options.n}")
    oracle = ": an oracle run, which knows the right answers" if scorer.oracle else ""
    return f"{options.method} {size}, prm={options.prm}{oracle}; tokens and FLOPs a problem"


Found = tuple[int, Explorer, list[Candidate]]


def _records(run: Run, stage: str, prompts: Prompts, scorer: Scorer, waiting: list[int]) -> Iterator[Any]:
    """The records of these problems, in their order, whichever search ends first."""
    options = run.config.search
    longest = options.max_new_tokens or run.config.ppo.max_new_tokens
    live = live_answers(run, policy_params(run, stage), prompts.tokens, longest)
    answers = Answers(prompts, live, scorer)
    about = {"method": options.method, "prm": options.prm, "oracle": scorer.oracle}
    ties = {i: KeyedTies(options.seed, i) for i in waiting}
    parameters = product_params(run.policy)

    def begin(i: int) -> Generator[list[Asked], list[Any], Found]:
        explorer = Explorer(lookahead=options.lookahead, budget=options.budget, longest=longest)
        candidates = yield from of_problem(i, searched(explorer, options, ties[i]))
        return i, explorer, candidates

    ended: dict[int, Found] = {}
    order = iter(waiting)
    next_one = next(order)
    for found in flow(map(begin, waiting), live, answers.scores, enough=2 * options.rows):
        ended[found[0]] = found
        while next_one in ended:
            i, explorer, candidates = ended.pop(next_one)
            cost = answers.costs[i]
            flops = cost.flops(parameters, scorer.parameters)
            whole = Searched(prompts.problems[i], prompts.tokens[i], explorer.tree, candidates, cost, flops)
            yield searched_record(run, whole, about, ties[i])
            next_one = next(order, -1)
    if again := live.cost.generated - sum(cost.generated for cost in live.costs):
        say(f"search: {again} tokens were written again, which no problem's cost has; config.ppo.cache_tokens is small")

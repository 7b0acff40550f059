"""`stepjax search`: trees and answers of a policy's search, appended to a file that a later call continues."""

from pathlib import Path

from stepjax.config import Config, SearchOptions
from stepjax.console.progress import progress
from stepjax.distributed.session import session
from stepjax.errors import UserError
from stepjax.parallel import is_main_process, only_asked_transfers
from stepjax.report.trees import write_search
from stepjax.runs.first_prompt import tell_first_prompt
from stepjax.runs.opening import open_run
from stepjax.runs.origin_parts import READING
from stepjax.runs.setup import Run
from stepjax.search.file import SearchFile
from stepjax.search.methods import check_method
from stepjax.search.scorers import Scorer, search_scorer
from stepjax.search.searcher import Searcher


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
    searcher = Searcher(run)
    method = check_method(options, searcher.longest)
    scorer = search_scorer(run, options, stepwise=method.stepwise)
    out = Path(options.out) if options.out else run.workdir / "search" / f"{options.method}-{options.split}.jsonl"
    with SearchFile(out, searcher.made_with(options), primary=is_main_process()) as file:
        complete(file, searcher, options, scorer)
        file.show(_title(options, scorer, searcher.stage))
    return write_search(out) if is_main_process() else out


def complete(
    file: SearchFile, searcher: Searcher, options: SearchOptions, scorer: Scorer, label: str = "Search"
) -> None:
    """Appends the searches that the file lacks, in the order of the problems."""
    waiting = [i for i, name in enumerate(searcher.names) if name not in file.done]
    start = len(searcher.names) - len(waiting)
    with progress(label, len(searcher.names), "problems", start=start) as bar, only_asked_transfers():
        for record in searcher.records(options, scorer, waiting):
            file.append([record])
            bar.advance(right=file.right / len(file.done))


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


def _title(options: SearchOptions, scorer: Scorer, stage: str) -> str:
    size = {"puct": f"sims={options.sims}"}.get(options.method, f"n={options.n}")
    oracle = ": an oracle run, which knows what is right" if scorer.oracle else ""
    return f"{options.method} {size} from {stage}, prm={options.prm}{oracle}; tokens and FLOPs a problem"

"""A round's search: problems that no round before had, into a file of its own, and what there is to learn of it."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stepjax.config import PRM_SCORERS
from stepjax.console.progress import say
from stepjax.data.jsonl import read_jsonl
from stepjax.data.packing import Example
from stepjax.data.schema import LabelledSolution, SchemaError
from stepjax.distributed.agree import agree
from stepjax.errors import UserError
from stepjax.improve.targets import TARGETS, example
from stepjax.parallel import is_main_process
from stepjax.report.trees import write_search
from stepjax.runs.setup import Run
from stepjax.search.command import complete
from stepjax.search.continuations import Programs
from stepjax.search.file import SearchFile
from stepjax.search.methods import METHODS
from stepjax.search.records import FOUND, TREE
from stepjax.search.scorers import Scorer, search_scorer
from stepjax.search.searcher import Searcher
from stepjax.search.tree import Tree
from stepjax.tasks.base import Problem


class RoundFile(SearchFile):
    """The searches of a round."""

    command = "improve"
    _option = "work directory (--workdir)"


def round_file(run: Run, number: int) -> Path:
    return run.workdir / "search" / f"improve-{number}.jsonl"


def round_problems(run: Run, number: int) -> list[Problem]:
    """The problems of a round, from 1: the next ones of the split train, which begins again at its end."""
    problems = run.task.problems("train")
    count = min(run.config.improve.problems, len(problems))
    return [problems[((number - 1) * count + i) % len(problems)] for i in range(count)]


def of_round(run: Run, number: int) -> Run:
    """The run whose search draws other tokens than those of other rounds and of other seeds of the run."""
    search = run.config.search
    seed = int(np.random.SeedSequence([run.config.seed, search.seed, number]).generate_state(1)[0] >> 1)
    config = dataclasses.replace(run.config, search=dataclasses.replace(search, split="train", seed=seed))
    return dataclasses.replace(run, config=config)


class Searches:
    """Searches the problems of rounds; what was compiled for a round serves the next ones."""

    def __init__(self, run: Run):
        self.run = run
        self._programs: Programs = {}
        self._scorer_of: tuple[str, Scorer] | None = None

    def __call__(self, number: int, stage: str, prm: str, *, begun: bool) -> None:
        """Searches a round's problems, those that its file lacks, and writes the page beside it.

        Args:
          stage: whose policy searches.
          prm: the stage of the process reward model, where the scorer reads one.
          begun: training on the round has begun, so that its policy is gone and the file must be whole.

        Raises:
          UserError: the file is of other options, or is not whole where it must be.
        """
        run = of_round(self.run, number)
        path, options = round_file(run, number), run.config.search
        searcher = Searcher(run, round_problems(run, number), stage=stage, programs=self._programs)
        with RoundFile(path, _made_with(searcher, number, prm, begun=begun), primary=is_main_process()) as file:
            if any(name not in file.done for name in searcher.names):
                if begun:
                    raise UserError(
                        f"{path}: searches are missing on which training has begun; put the file back, or remove "
                        f"{run.checkpoint_folder('improve')} to begin again"
                    )
                complete(file, searcher, options, self._scorer(prm), f"Improve round {number}: search")
                file.show(f"Round {number}: {options.method}, prm={options.prm}; tokens and FLOPs a problem")
            if is_main_process() and not path.with_suffix(".html").exists():
                write_search(path)
        agree(0)  # others read the file once it is whole

    def _scorer(self, stage: str) -> Scorer:
        options = self.run.config.search
        if self._scorer_of is None:
            stepwise = METHODS[options.method].stepwise
            scorer = search_scorer(self.run, options, stepwise=stepwise, stage=stage)
        else:
            before, scorer = self._scorer_of
            if before != stage:
                scorer.read_stage(stage)
        self._scorer_of = stage, scorer
        return scorer


def _made_with(searcher: Searcher, number: int, prm: str, *, begun: bool) -> dict[str, Any]:
    """What a round's searches depend on. `begun`: the policy's checkpoint may be gone, and its name is computed."""
    run = searcher.run
    # The checkpoints' fingerprints may be gone, too: names and steps say enough within the stage.
    about = searcher.made_with(run.config.search, prm, weights=False) | {"round": number, "prm_stage": prm}
    if run.config.search.prm not in PRM_SCORERS:
        about["process_reward_model"] = None
    if begun and number > 1:
        about["policy"] = f"{searcher.stage} {(number - 1) * run.config.improve.updates}"
    return about


@dataclasses.dataclass(frozen=True)
class Read:
    """A search as a round's file has it; `right`: the nodes of right candidates."""

    record: LabelledSolution
    tree: Tree
    right: frozenset[int]


def read_round(run: Run, number: int) -> Iterator[Read]:
    """The searches of a round, in order. UserError where the file is gone or damaged."""
    path = round_file(run, number)
    if not path.is_file():
        raise UserError(f"{path}: the searches of round {number} are gone; put the file back")
    for line, row in read_jsonl(path):
        try:
            record = LabelledSolution.from_json(row)
            right = frozenset(int(c["node"]) for c in record.extra[FOUND]["candidates"] if c["correct"])
            yield Read(record, Tree.from_json(record.extra[TREE]), right)
        except (SchemaError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}:{line}: not a search of a round ({' '.join(str(error).split())[:200]})") from None


@dataclasses.dataclass(frozen=True)
class Learned:
    """What there is to learn in a round.

    Attributes:
      examples: of this round and, with `improve.earlier`, of those before.
      figures: of this round's search; tokens are those of all rounds so far.
    """

    examples: Sequence[Example]
    figures: dict[str, float]


def learned(run: Run, number: int) -> Learned:
    """The examples of the rounds up to this one. UserError where there are none."""
    options, examples, found = run.config.improve, list[Example](), Counter[str]()
    for earlier in range(1, number + 1):
        ours = earlier == number
        for one in read_round(run, earlier):
            cost = one.record.extra[FOUND]["cost"]
            found["generated"] += cost["generated"]
            found["read"] += cost["read"]
            targets = _examples(run, one) if ours or options.earlier else []
            examples += targets
            if ours:
                found += Counter(
                    problems=1, targets=len(targets), learned=bool(targets), right=bool(one.record.correct),
                    any_right=bool(one.right),
                )  # fmt: skip
    if not examples:
        raise UserError(
            f"improve round {number}: nothing to learn, of {found['problems']} searched problems {found['any_right']} "
            "have a right response; raise config.improve.problems, or let config.search take more samples"
        )
    say(
        f"improve round {number}: {found['targets']} targets on {found['learned']} of {found['problems']} problems"
        + (f", {len(examples)} with those of earlier rounds" if options.earlier else "")
    )
    total = found["problems"]
    return Learned(
        examples,
        {
            "round": float(number),
            "search/accuracy": found["right"] / total,
            "search/any_right": found["any_right"] / total,
            "search/learned": found["learned"] / total,
            "search/targets": float(found["targets"]),
            "search/generated_tokens": float(found["generated"]),
            "search/read_tokens": float(found["read"]),
        },
    )


def _examples(run: Run, one: Read) -> list[Example]:
    options = run.config.improve

    def same(tokens: Sequence[int]) -> str:
        return " ".join(run.framing.text(tokens).split())

    made = TARGETS[options.targets].make(one.tree, one.right, options, run.config.search.backup, same)
    return [example(one.record.extra["prompt_tokens"], target) for target in made]

"""Searches of a run's problems, which share the loaded models and the compiled programs."""

import dataclasses
import functools
from collections.abc import Generator, Iterator, Sequence
from typing import Any

from stepjax.config import PRM_SCORERS, Config, SearchOptions
from stepjax.console.progress import say
from stepjax.data.schema import LabelledSolution
from stepjax.errors import UserError
from stepjax.models.flops import product_params
from stepjax.runs.setup import Run
from stepjax.runs.stages import has_stage, newest_policy, no_stage, policy_params, policy_step
from stepjax.runs.weights import weights_of
from stepjax.search.answers import Answers
from stepjax.search.ask import NUMBERS, Asked, of_problem
from stepjax.search.beam import Candidate
from stepjax.search.continuations import Programs, live_answers
from stepjax.search.explorer import Explorer
from stepjax.search.flow import flow
from stepjax.search.live import LiveAnswers
from stepjax.search.methods import searched
from stepjax.search.records import Searched, searched_record
from stepjax.search.replay import Replay
from stepjax.search.scorers import Scorer
from stepjax.search.ties import KeyedTies
from stepjax.tasks.base import Problem
from stepjax.tasks.encoding import fitting_prompts
from stepjax.workdir.record_file import WEIGHTS

MOST_PROBLEMS = (1 << 31) // NUMBERS
FREE = ("rows", "out", "problems")
"""Options that the search of a problem does not depend on."""

Found = tuple[int, Explorer, list[Candidate]]


class Searcher:
    """The searches of a run, one after another: methods, sizes and scorers may differ, and nothing else.

    Attributes:
      stage: whose policy searches.
      longest: tokens of the longest response.
      prompts: of the problems that `config.search` names.
    """

    def __init__(
        self, run: Run, problems: Sequence[Problem] | None = None, *, stage: str = "", programs: Programs | None = None
    ):
        """
        Args:
          problems: other ones than those of `config.search`.
          stage: another one than that of `config.search`.
          programs: as of `live_answers`.

        Raises:
          UserError: the policy's stage is missing, or the problems cannot be told apart.
        """  # fmt: skip
        self.run, options = run, run.config.search
        self.longest, self._programs = longest_response(run.config), programs
        self.stage = stage or options.stage or newest_policy(run)
        if not has_stage(run, self.stage):
            raise no_stage(run, self.stage)
        some = _named(run) if problems is None else problems
        self.prompts = fitting_prompts(run.prompt, some, width=2**31, where="config.search")
        if len(self.prompts.problems) > MOST_PROBLEMS:
            raise UserError(f"config.search.problems: at most {MOST_PROBLEMS} have keys of their own; name fewer")
        self.names = [problem.id for problem in self.prompts.problems]
        if len(set(self.names)) < len(self.names):
            raise UserError(f"config.search.split={options.split}: two problems have the same id")

    def made_with(self, options: SearchOptions, prm: str = "prm", *, weights: bool = True) -> dict[str, Any]:
        """What the records of a search depend on. `prm`: the stage of the run's own process reward model; `weights`:
        fingerprints of the checkpoints, too."""
        run = self.run
        named = {k: v for k, v in dataclasses.asdict(options).items() if k not in (*FREE, "stage")}
        learned = options.prm in PRM_SCORERS and not run.config.prm.path
        prints = {WEIGHTS: weights_of(run, self.stage, *([prm] if learned else []))} if weights else {}
        return named | {
            "policy": f"{self.stage} {policy_step(run, self.stage) or run.config.model.path}",
            "process_reward_model": run.config.prm.path or policy_step(run, prm),
            "workdir": str(run.workdir.absolute()),
            "max_new_tokens": self.longest,
            "prompt": dataclasses.asdict(run.config.prompt),
            **prints,
        }

    def records(
        self, options: SearchOptions, scorer: Scorer, waiting: Sequence[int], known: Replay | None = None
    ) -> Iterator[LabelledSolution]:
        """The records of these problems, in their order, whichever search ends first.

        `known`: answers in place of the policy.
        """
        if not waiting:
            return
        run, prompts = self.run, self.prompts
        own = dataclasses.replace(run, config=dataclasses.replace(run.config, search=options))
        live = known or self._restarted()
        answers = Answers(prompts, live, scorer)
        about = {"method": options.method, "prm": options.prm, "oracle": scorer.oracle}
        ties = {i: KeyedTies(options.seed, i) for i in waiting}
        parameters = product_params(run.policy)

        def begin(i: int) -> Generator[list[Asked], list[Any], Found]:
            explorer = Explorer(lookahead=options.lookahead, budget=options.budget, longest=self.longest)
            candidates = yield from of_problem(i, searched(explorer, options, ties[i]))
            return i, explorer, candidates

        ended: dict[int, Found] = {}
        order = iter(waiting)
        next_one = next(order)
        # A continuation has a row, and until it begins the prefix behind which it does so, too.
        most = live.sizes.rows * 2 // 3 if isinstance(live, LiveAnswers) else 0
        for found in flow(map(begin, waiting), live, answers.scores, enough=2 * options.rows, most=most):
            ended[found[0]] = found
            while next_one in ended:
                i, explorer, candidates = ended.pop(next_one)
                cost = answers.costs[i]
                flops = cost.flops(parameters, scorer.parameters)
                whole = Searched(prompts.problems[i], prompts.tokens[i], explorer.tree, candidates, cost, flops)
                yield searched_record(own, whole, about, ties[i])
                next_one = next(order, -1)
        if isinstance(live, LiveAnswers):
            _tell_again(live)

    def _restarted(self) -> LiveAnswers:
        self._live.restart()
        return self._live

    @functools.cached_property
    def _live(self) -> LiveAnswers:
        params = policy_params(self.run, self.stage)
        return live_answers(self.run, params, self.prompts.tokens, self.longest, self._programs)


def longest_response(config: Config) -> int:
    """Tokens of the longest response of a search."""
    return config.search.max_new_tokens or config.ppo.max_new_tokens


def _named(run: Run) -> list[Problem]:
    """The problems that `config.search` names."""
    options = run.config.search
    problems = run.task.problems(options.split)
    return [problems[i] for i in range(min(options.problems or len(problems), len(problems)))]


def _tell_again(live: LiveAnswers) -> None:
    if again := live.cost.generated - sum(cost.generated for cost in live.costs):
        say(f"search: {again} tokens were written again, which no problem's cost has; config.ppo.cache_tokens is small")

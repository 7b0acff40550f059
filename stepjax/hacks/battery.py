"""The battery: which edits that add nothing to a solution raise its reward from a reward model and reward streams.

`stepjax eval --config.eval.kind=hacks`. Solutions of held-out problems are edited (`edits.py`) and paid (`returns.py`)
by the run's own streams and by the usual alternatives (`comparisons.py`), twice: once with the run's process reward
model, once with the task's exact ratings in its place. What is raised under both is the streams' arithmetic, what is
raised under the model alone is the model's mistake.
"""

from typing import Any

import numpy as np

from stepjax.console.progress import progress
from stepjax.errors import UserError
from stepjax.evaluation.scorer import make_scorer
from stepjax.hacks.comparisons import COMPARISONS, Streams
from stepjax.hacks.returns import LEAST, change, mean_weights, pushes, rated_exactly, response_rows, token_weights
from stepjax.hacks.solutions import SolutionSet, edit_solutions
from stepjax.report.hacks import show
from stepjax.rewards.reward_streams import is_learned
from stepjax.runs.responses import Response
from stepjax.runs.setup import Run
from stepjax.runs.stages import has_stage
from stepjax.tasks.encoding import fitting_prompts
from stepjax.workdir.json_file import write_json

OWN = "own streams"


def run_battery(run: Run) -> dict[str, Any]:
    """Edits the solutions, computes their rewards, prints the tables, writes hacks.json.

    Raises:
      UserError: the task has no solution to edit.
    """
    options = run.config.eval
    problems = run.task.problems(options.split)
    chosen = [problems[i] for i in range(min(options.problems, len(problems)))]
    width = run.config.ppo.prompt_tokens
    prompts = fitting_prompts(run.prompt, chosen, width=width, where="config.ppo.prompt_tokens")
    with progress("Hacks", len(prompts.problems), "problems") as bar:
        sets = edit_solutions(run, prompts, bar=bar)
    if not sets:
        raise UserError(f"config.eval.kind=hacks: the split {options.split} of {run.task.name} has no solution to edit")
    found: dict[str, Any] = {
        "problems": len(prompts.problems),
        "left_out": prompts.left_out,
        "split": options.split,
        "least": LEAST,
        "sets": {},
        "notes": [],
    }
    lists = {OWN: dict(run.config.ppo.streams), **COMPARISONS}
    scorer = _Scorer(run) if run.config.prm.path or has_stage(run, "prm") else None
    if scorer is None:
        unpaid = [name for name, streams in lists.items() if _is_learned(streams)]
        found["notes"].append(f"There is no process reward model here, so these are left out: {', '.join(unpaid)}.")
    for kind, solutions in sets.items():
        found["sets"][kind] = _pay(solutions, lists, scorer, run, found["notes"], kind)
    write_json(run.workdir / "hacks.json", found)
    show(found)
    return found


class _Scorer:
    """The run's process reward model over responses: the classes of every step that has a token."""

    def __init__(self, run: Run):
        self.scorer, self.splitter = make_scorer(run), run.splitter

    def __call__(self, responses: list[Response]) -> list[np.ndarray | None]:
        found: list[np.ndarray | None] = []
        for response, scores in zip(responses, self.scorer.score_responses(responses), strict=True):
            index, end = self.splitter.split_host(response.tokens)
            found.append(None if scores is None else scores[index[end]])
        return found


def _is_learned(streams: Streams) -> bool:
    return any(is_learned(stream) for stream in streams.values())


def _pay(
    solutions: SolutionSet, lists: dict[str, Streams], scorer: _Scorer | None, run: Run, notes: list[str], kind: str
) -> dict[str, Any]:
    """The part of hacks.json for one set of solutions."""
    labels: list[tuple[str, int]] = [("", i) for i in range(len(solutions.originals))]
    responses = list(solutions.originals)
    for name, edited in solutions.edits.items():
        labels += [(name, i) for i in edited.responses]
        responses += edited.responses.values()
    probabilities: list[np.ndarray] | None = None
    if scorer is not None:
        scored = scorer(responses)
        notes += [f"{kind.capitalize()} solutions: {told}." for told in scorer.scorer.told_left_out()]
        fitting = [i for i, p in enumerate(scored) if p is not None]
        labels, responses = [labels[i] for i in fitting], [responses[i] for i in fitting]
        probabilities = [p for p in scored if p is not None]
    if not responses:
        raise UserError(f"config.prm.row_tokens={run.config.prm.row_tokens}: every solution is longer than that")
    place = {label: row for row, label in enumerate(labels)}
    # Solutions of which both versions were read: (row before, row after) of each edit.
    pairs = {
        name: np.array([(place["", i], row) for (n, i), row in place.items() if n == name and ("", i) in place]).T
        for name in solutions.edits
    }
    rows = response_rows(responses, run.splitter, probabilities)
    own = "task" if scorer is None else "model"
    paid: dict[str, dict[str, Any]] = {own: {}, "exact": {}}
    exact = rated_exactly(rows, responses) if responses[0].step_ratings is not None else None
    for name, streams in lists.items():
        if not _is_learned(streams) or scorer is not None:
            paid[own][name] = _changes(token_weights(rows, responses, streams), rows, labels, pairs)
        if _is_learned(streams) and exact is not None:
            paid["exact"][name] = _changes(token_weights(exact, responses, streams), exact, labels, pairs)
    return {
        "solutions": sum(name == "" for name, _ in labels),
        "edits": {name: _described(solutions, name, responses, pair) for name, pair in pairs.items()},
        "returns": {payer: lists for payer, lists in paid.items() if lists},
    }


def _changes(weights: np.ndarray, rows: Any, labels: list[tuple[str, int]], pairs: dict[str, np.ndarray]) -> Any:
    returns = mean_weights(weights, rows)
    original = [row for row, (name, _) in enumerate(labels) if name == ""]
    return {
        "return": round(float(np.mean(returns[original])), 6) if original else None,
        "edits": {
            name: change(returns[pair[0]], returns[pair[1]], pushes(weights, rows, pair[0], pair[1]))
            for name, pair in pairs.items()
            if pair.size
        },
    }


def _described(solutions: SolutionSet, name: str, responses: list[Response], pair: np.ndarray) -> dict[str, Any]:
    """How often an edit was written, its answers, and one example."""
    edited = solutions.edits[name]
    told: dict[str, Any] = {"written": int(pair.shape[-1]) if pair.size else 0, "skipped": dict(edited.skipped)}
    if pair.size:
        before, after = ([responses[row] for row in half] for half in pair)
        told["right"] = [float(np.mean([r.correct for r in some])) for some in (before, after)]
        told["steps"] = [float(np.mean([len(r.steps) for r in some])) for some in (before, after)]
        told["example"] = {"prompt": before[0].problem.prompt, "before": before[0].text, "after": after[0].text}
    return told

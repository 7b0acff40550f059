"""The search of a problem as a record of the schema: the chosen response, its tree, the votes, and the cost."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from stepjax.config import PRM_SCORERS
from stepjax.data.schema import LabelledSolution
from stepjax.evaluation.best_of_n import answer_groups
from stepjax.runs.response_records import record_of
from stepjax.runs.responses import grade_responses, read_response
from stepjax.runs.setup import Run
from stepjax.search.ask import Cost, End
from stepjax.search.beam import Candidate
from stepjax.search.choose import Choice, Vote, choose
from stepjax.search.ties import Ties
from stepjax.search.tree import Tree
from stepjax.tasks.base import Problem

TREE = "tree"
FOUND = "search"
"""Of a record's `extra`: the rows of the tree; candidates, choice and cost."""


@dataclasses.dataclass(frozen=True)
class _Text:
    """A candidate as a vote sees it."""

    text: str
    finished: bool


@dataclasses.dataclass(frozen=True)
class Searched:
    """The end of a problem's search."""

    problem: Problem
    prompt: Sequence[int]
    tree: Tree
    candidates: Sequence[Candidate]
    cost: Cost
    flops: float


def searched_record(run: Run, found: Searched, about: dict[str, Any], ties: Ties) -> LabelledSolution:
    """The record; `about`: what its `extra["search"]` says of the method.

    Its steps are those of the chosen response; where no candidate has an answer, of the first one, which is then marked
    unfinished or wrong. `extra["prm"]` has the value of each of its steps where the search knows it.
    """
    tree = found.tree
    prefixes = [tree.prefix(one.node) for one in found.candidates]
    texts = [_Text(run.framing.text(p), tree[c.node].end is End.RESPONSE) for p, c in _zip(prefixes, found)]
    answers = answer_groups(run.task, texts).tolist()
    right = grade_responses(run.task, [found.problem] * len(texts), [t.text for t in texts])
    right = [bool(r) and t.finished for r, t in zip(right, texts, strict=True)]
    votes = [
        Vote(answer, tree[c.node].value or 0.0, c.share) for answer, c in zip(answers, found.candidates, strict=True)
    ]
    options = run.config.search
    choice = choose(votes, options.choose, ties)
    place = 0 if choice.response is None else choice.response
    chosen = found.candidates[place].node
    response = read_response(run, found.problem, found.prompt, prefixes[place], texts[place].finished)
    more: dict[str, Any] = {
        FOUND: {
            **about,
            **_told(found, votes, right, choice),
            "path": tree.path(chosen),
            "cost": dataclasses.asdict(found.cost) | {"flops": found.flops},
        },
        TREE: tree.to_json([run.framing.text(node.tokens) for node in tree.nodes], options.backup),
        "text": response.text,
    }
    if options.prm in PRM_SCORERS:
        more["prm"] = step_values(tree, chosen, lambda tokens: len(run.splitter.texts(tokens)))
    if response.step_ratings is not None:
        more["step_ratings"] = [rated.rating for rated in response.step_ratings]
    return record_of(run, response, found.problem.id, **more)


def _zip(prefixes: list[tuple[int, ...]], found: Searched) -> Any:
    return zip(prefixes, found.candidates, strict=True)


def _told(found: Searched, votes: Sequence[Vote], right: Sequence[bool], choice: Choice) -> dict[str, Any]:
    candidates = [
        {"node": c.node, "share": c.share, "score": round(v.score, 6), "answer": v.answer, "correct": r}
        for c, v, r in zip(found.candidates, votes, right, strict=True)
    ]
    return {
        "candidates": candidates,
        "weights": {str(answer): round(weight, 6) for answer, weight in choice.weights.items()},
        "chosen": choice.response,
        "any_right": any(right),
    }


def step_values(tree: Tree, node: int, count: Any, q: str = "") -> list[float | None]:
    """One value a step of a node's prefix: that of the node which completes it, where it was rated.

    Args:
      count: how many steps the tokens of a response have.
      q: mean or max: what was backed up, in place of the scorer's value.
    """
    path = tree.path(node)[1:]
    found: list[float | None] = [None] * count(tree.prefix(node))
    for i in path:
        steps = count(tree.prefix(i))
        one = tree[i]
        value = (tree.q(i, q) if one.visits else None) if q else one.value
        if steps and value is not None:
            found[steps - 1] = round(value, 6)
    return found

"""The candidates of a search as responses."""

import dataclasses

from stepjax.config import PRM_SCORERS
from stepjax.data.schema import LabelledSolution
from stepjax.runs.setup import Run
from stepjax.search.ask import End
from stepjax.search.records import FOUND, TREE, step_values
from stepjax.search.tree import Tree


def candidates(run: Run, record: LabelledSolution) -> list[LabelledSolution]:
    """A record for each candidate of a problem's search, in its order; exact ratings where the task has them.

    Raises:
      ValueError, KeyError, TypeError: the record's tree or its candidates are not those of a search.
    """
    tree, found = Tree.from_json(record.extra[TREE]), []
    problem = run.prompt.problem_of(record.problem, record.id, record.answer)
    for number, candidate in enumerate(record.extra[FOUND]["candidates"]):
        node = int(candidate["node"])
        if not 0 < node < len(tree):
            raise ValueError(f"candidate {number}: there is no node {node}")
        tokens = tree.prefix(node)
        steps = tuple(step.strip() for step in run.splitter.texts(tokens))
        extra = {
            "text": run.framing.text(tokens),
            "unfinished": tree[node].end is not End.RESPONSE,
        }
        if record.extra[FOUND].get("prm") in PRM_SCORERS:
            extra["prm"] = step_values(tree, node, lambda tokens: len(run.splitter.texts(tokens)))
        if (rated := run.task.rate_steps(problem, steps)) is not None:
            extra["step_ratings"] = [step.rating for step in rated]
        found.append(
            dataclasses.replace(
                record,
                steps=steps,
                kind="step",
                ratings=(),
                values=(),
                completions=(),
                tokens=(),
                first_error=None,
                correct=bool(candidate["correct"]),
                id=f"{record.id}/{number}",
                extra=extra,
            )
        )
    return found

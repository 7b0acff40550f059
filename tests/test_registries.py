"""Names of signals, estimators and tasks are compared in no module: what one of them needs stands in its row."""

import ast

import pytest
from test_floors import FILES, PACKAGE

from stepjax.config import TASK_NAMES
from stepjax.credit.estimators import ESTIMATORS
from stepjax.rewards.signals import SIGNALS

NAMES = {"signal": SIGNALS, "estimator": ESTIMATORS, "name": TASK_NAMES}
"""An attribute, and the names that it must not be compared with."""


def comparisons(code: str) -> list[str]:
    """Comparisons of `x.signal`, `x.estimator` or `x.name` with a name of the registries, in a piece of code."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
        elif isinstance(node, ast.Match):
            sides = [node.subject, *(case.pattern for case in node.cases)]
        else:
            continue
        names = {name for side in sides if isinstance(side, ast.Attribute) for name in NAMES.get(side.attr, ())}
        constants = {x.value for side in sides for x in ast.walk(side) if isinstance(x, ast.Constant)}
        if names & constants:
            found.append(ast.unparse(node))
    return found


def test_no_module_compares_a_name():
    found = {str(file.relative_to(PACKAGE)): comparisons(file.read_text(encoding="utf-8")) for file in FILES}
    assert not {file: compared for file, compared in found.items() if compared}


@pytest.mark.parametrize(
    "code",
    [
        "o.signal == 'kl'",
        "'gae' != stream.estimator",
        "options.signal in ('limit', 'finish')",
        "run.config.task.name == 'register_chain'",
        "match o.estimator:\n  case 'rloo': pass",
    ],
)
def test_a_comparison_would_be_seen(code):
    assert comparisons(code)
    assert not comparisons("o.signal in SIGNALS") and not comparisons("stage.name == 'ppo'")

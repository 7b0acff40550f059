"""The studies of arms and seeds, by name."""

import importlib

from stepjax.errors import UserError, nearest
from stepjax.studies.study import Study

STUDIES = {
    "variance": "stepjax.studies.variance_study",
    "rounds": "stepjax.studies.rounds_study",
    "blame": "stepjax.studies.blame_study",
    "stall": "stepjax.studies.stall_study",
    "myopia": "stepjax.studies.myopia_study",
    "labels": "stepjax.studies.label_cost_study",
    "padding": "stepjax.studies.padding_study",
    "correction": "stepjax.studies.correction_study",
    "correction_runs": "stepjax.studies.correction_runs_study",
    "seeds": "stepjax.studies.seeds_study",
    "simple": "stepjax.studies.simple_study",
    "simple_runs": "stepjax.studies.simple_runs_study",
    "generalise": "stepjax.studies.generalise_study",
}
"""The module of each: its constant `STUDY`."""


def load(name: str) -> Study:
    """UserError where there is no such study."""
    if name not in STUDIES:
        raise UserError(f"no study {name!r}{nearest(name, STUDIES)}")
    return importlib.import_module(STUDIES[name]).STUDY

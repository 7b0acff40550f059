"""Each study reduced: it ends, its arithmetic holds; a kill in the middle loses nothing, two jobs equal one."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest

from stepjax.cli import main
from stepjax.studies.registry import STUDIES, load
from stepjax.studies.variance_study import law
from stepjax.workdir.folder import in_use

pytestmark = pytest.mark.slow

TIMED = ("seconds",)
"""Figures that are no two times the same."""

SEEDS = dict.fromkeys(("simple_runs", "correction_runs", "generalise"), (0,))
"""Of studies whose training runs take long; `seeds`, of two seeds, is one of training runs, too."""


def figures_of(folder):
    """{(row, column, seed): figures} of study.json, times left out."""
    found = {}
    for record in json.loads((folder / "study.json").read_text())["figures"]:
        at = record.pop("row"), record.pop("column"), record.pop("seed")
        found[at] = {name: x for name, x in record.items() if name not in TIMED}
    return found


@pytest.fixture(scope="module")
def quick(tmp_path_factory, compiled_once):
    """A function from a study's name to the folder of its reduced study, one process at a time; run once."""
    folders = {}

    def run(name):
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp(name) / "study"
            seeds = f"--seeds=0:{len(SEEDS.get(name, (0, 1)))}"
            assert main(["study", name, "--quick", seeds, f"--workdir={folders[name]}"]) == 0
        return folders[name]

    return run


@pytest.mark.parametrize("name", STUDIES)
def test_a_reduced_study_has_figures_of_every_arm_and_says_that_it_is_reduced(name, quick):
    folder = quick(name)
    found, arms = figures_of(folder), load(name).plan(True).arms
    assert set(found) == {(arm.row, arm.column, seed) for arm in arms for seed in SEEDS.get(name, (0, 1))}
    assert all(figures for figures in found.values())
    page = (folder / "study.html").read_text()
    assert "its figures are no result" in page and "failed" not in page
    assert ("<svg" in page) == (name != "seeds"), "charts; nothing is swept in seeds"


def test_the_law_holds_where_errors_are_independent_and_the_critic_is_exact(quick):
    found = figures_of(quick("variance"))
    for steps in (2, 4):
        for lam in (1.0, 0.95):
            ratios = [
                found[f"independent, response, λ = {lam:g}, exact critic", str(steps), s]["ratio"] for s in (0, 1)
            ]
            assert np.mean(ratios) == pytest.approx(law(steps, lam), rel=0.15)


def test_exact_scores_blame_nobody(quick):
    for (row, _, _), figures in figures_of(quick("blame")).items():
        if row in ("exact, exact scores", "step, exact scores"):
            assert figures["blamed"] == figures["excused"] == 0.0
        if row == "grpo, exact scores":
            assert figures["blamed"] > 0.3


def test_steps_are_attempted_from_the_formulas_chance_on(quick):
    for (row, _, _), figures in figures_of(quick("stall")).items():
        if row == "fixed skill":
            assert figures["threshold"] == pytest.approx(figures["formula"], rel=0.1)


def test_a_step_alone_never_invests_and_a_turn_as_far_as_it_reaches(quick):
    for (row, wait, _), figures in figures_of(quick("myopia")).items():
        if row == "step" or (row, wait) == ("turn", "4"):
            assert figures["threshold"] == figures["formula"] == 1.0
        if (row, wait) == ("turn", "0"):
            assert figures["threshold"] == pytest.approx(figures["formula"], rel=0.2)


def test_errors_of_labels_are_those_that_were_asked_for(quick):
    for (row, _, _), figures in figures_of(quick("labels")).items():
        if row == "exact":
            assert figures["label_error"] == 0.0 and figures["f1"] > 0.95
        if row == "judge, errs in 20 %":
            assert figures["called_right"] == pytest.approx(0.2, abs=0.03)
        if row.startswith("hard"):
            assert figures["completions"] > 20 and figures["label_error"] < figures["called_right"]


def test_reward_models_have_the_quality_that_names_them(quick):
    for (row, _, _), figures in figures_of(quick("padding")).items():
        if row.endswith("exact"):
            assert figures["f1"] == figures["f1_end"] == 1.0
        if row.endswith(".98"):
            assert figures["f1"] == pytest.approx(0.98, abs=0.03)


def test_completions_of_every_step_are_sampled_steps_too(quick):
    found = figures_of(quick("simple"))
    for seed in (0, 1):
        assert found["vineppo", "2", seed]["sampled"] > 5 * found["rloo", "2", seed]["sampled"]


@pytest.mark.parametrize(("name", "begun"), [("stall", "s0/figures.json"), ("seeds", "quickstart-s0/metrics.jsonl")])
def test_a_kill_in_the_middle_loses_nothing_and_two_jobs_give_the_same_figures(name, begun, quick, tmp_path):
    folder = tmp_path / "study"
    command = ["study", name, "--quick", "--seeds=0:2", "--jobs=2", f"--workdir={folder}"]
    process = subprocess.Popen([sys.executable, "-m", "stepjax.cli", *command], stdout=subprocess.PIPE)
    end = time.monotonic() + 300
    while not (folder / begun).exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert (folder / begun).exists() and not (folder / "study.json").exists()
    runs = [path for path in folder.iterdir() if (path / "config.json").exists()]
    while any(in_use(run) for run in runs) and time.monotonic() < end:
        time.sleep(0.1)
    assert runs and not any(in_use(run) for run in runs), "the runs end with the study"
    assert main(command) == 0
    assert figures_of(folder) == figures_of(quick(name))

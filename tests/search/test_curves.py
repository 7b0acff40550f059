"""`stepjax eval --config.kind=search` with a tiny run: files, figures, going on after a kill, mistakes."""

import json
from pathlib import Path

import numpy as np
import pytest
from runs.tiny_run import TinyRun, kill_when, start, stepjax

from stepjax.data.schema import LabelledSolution
from stepjax.errors import UserError
from stepjax.search.curve_file import outcome_of
from stepjax.search.grid import Cell, Grid, _budgets, _names
from stepjax.search.methods import METHODS

SMALL = ("--config.search.problems=6", "--config.search.width=2", "--config.search.rows=8")
GRID = ("--config.kind=search", "--config.search_budgets=1,4", "--config.search_methods=beam,puct")
FOLDER = Path("search") / "curves"


def read(path: Path) -> list[LabelledSolution]:
    return [LabelledSolution.from_json(json.loads(row)) for row in path.read_text().splitlines()]


def same(path: Path) -> list[LabelledSolution]:
    """The records, without what depends on which prefixes shared a batch."""
    records = read(path)
    for record in records:
        for name in ("computed_again", "flops"):
            del record.extra["search"]["cost"][name]
    return records


def figures(workdir: Path) -> dict:
    return json.loads((workdir / "eval.json").read_text())["measures"]["search"]


@pytest.fixture(scope="module")
def folder(tiny: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose searches are measured."""
    workdir = tiny.copy(tmp_path_factory.mktemp("curves") / "run")
    assert stepjax("eval", tiny.config, workdir, *SMALL, *GRID) == 0
    return workdir


@pytest.mark.slow
def test_every_search_has_its_file_and_figures(folder: Path) -> None:
    found = figures(folder)
    assert found["methods"] == ["best_of_n", "beam", "puct"] and found["prms"] == ["learned", "uniform", "exact"]
    assert len(found["cells"]) == 3 * 2 * 3
    for row in found["cells"]:
        records = read(folder / FOLDER / f"{row['method']}-{row['budget']}-{row['prm']}-test.jsonl")
        outcomes = [outcome_of(record) for record in records]
        assert len({r.id for r in records}) == 6 == found["problems"]
        assert row["right"] == np.mean([o.right for o in outcomes])
        assert row["generated"] == np.mean([o.cost["generated"] for o in outcomes])
        assert row["right_low"] <= row["right"] <= row["right_high"] and row["any_right"] >= row["right"]
        assert (row["read"] > 0) == (row["prm"] == "learned")
    page = (folder / "report.html").read_text()
    assert "prm=exact: an oracle run" in page and "tokens written a problem" in page and "ln N − (N − 1)/N" in page
    assert (folder / FOLDER / "beam-4-learned-test.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("budget", "prm"), [(1, "learned"), (4, "exact")])
def test_a_smaller_best_of_n_is_what_a_search_of_its_own_finds(
    tiny: TinyRun, folder: Path, budget: int, prm: str
) -> None:
    out = folder / "alone.jsonl"
    own = (f"--config.n={budget}", f"--config.prm={prm}", f"--config.out={out}")
    assert stepjax("search", tiny.config, folder, *SMALL, *own) == 0
    assert same(out) == same(folder / FOLDER / f"best_of_n-{budget}-{prm}-test.jsonl")
    out.unlink()
    out.with_suffix(".options.json").unlink()


@pytest.mark.slow
def test_a_killed_call_is_continued_in_the_middle_of_a_search(tiny: TinyRun, folder: Path, tmp_path: Path) -> None:
    workdir = tiny.copy(tmp_path / "run")
    cut = workdir / FOLDER / "beam-4-learned-test.jsonl"
    process = start("eval", tiny.config, workdir, *SMALL, *GRID)
    assert kill_when(process, lambda: cut.exists() and cut.read_bytes().count(b"\n") >= 2)
    before = {path.name: path.read_bytes() for path in (workdir / FOLDER).glob("*.jsonl")}
    assert len(before) < 18 and not (workdir / FOLDER / "puct-4-exact-test.jsonl").exists()
    cut.write_bytes(cut.read_bytes()[:-20])
    assert stepjax("eval", tiny.config, workdir, *SMALL, *GRID) == 0
    for path in (folder / FOLDER).glob("*.jsonl"):
        assert same(workdir / FOLDER / path.name) == same(path)
        if path.name in before and path.name != cut.name:
            assert (workdir / FOLDER / path.name).read_bytes() == before[path.name], "nothing is searched twice"
    one, other = figures(workdir), figures(folder)
    assert [row["right"] for row in one["cells"]] == [row["right"] for row in other["cells"]]
    assert one["optimal"] == other["optimal"] and one["over"] == other["over"]


@pytest.mark.slow
def test_figures_of_a_part_come_from_the_same_files_and_other_options_are_refused(
    tiny: TinyRun, folder: Path, capfd: pytest.CaptureFixture
) -> None:
    before = {path.name: path.read_bytes() for path in (folder / FOLDER).glob("*.jsonl")}
    kept = json.loads((folder / "eval.json").read_text())
    only = (*SMALL, "--config.kind=search", "--config.search_budgets=1", "--config.search_prms=uniform")
    only = (*only, "--config.search_methods=best_of_n")
    assert stepjax("eval", tiny.config, folder, *only) == 0 and len(figures(folder)["cells"]) == 1
    capfd.readouterr()
    assert stepjax("eval", tiny.config, folder, *only, "--config.search.seed=3") == 2
    error = capfd.readouterr().err.strip()
    assert "was made with seed=0, not 3; name another --workdir, or move its search/curves away" in error
    assert {path.name: path.read_bytes() for path in (folder / FOLDER).glob("*.jsonl")} == before
    (folder / "eval.json").write_text(json.dumps(kept))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--config.search_methods=beam,dvt"], "config.eval.search_methods: no 'dvt' (did you mean 'dvts'?)"),
        (["--config.search_budgets=1,6", "--config.search.width=4"], "6 must be a multiple of config.search.width=4"),
        (["--config.search_prms=value"], "config.eval.search_prms=value: the process reward model here rates steps"),
        (["--config.search.temperature=0"], "config.search.temperature: at 0 all samples of a prefix are the same"),
    ],
)
def test_mistakes_take_one_line(
    tiny: TinyRun, tmp_path: Path, capfd: pytest.CaptureFixture, options: list[str], said: str
) -> None:
    workdir = tiny.copy(tmp_path / "run")
    assert stepjax("eval", tiny.config, workdir, "--config.kind=search", *options) == 2
    error = capfd.readouterr().err.strip()
    assert said in error and "Traceback" not in error and len(error.splitlines()) == 1
    assert not (workdir / FOLDER).exists(), "all is checked before the first search"


def test_names_and_numbers() -> None:
    assert _names("search_prms", " exact,learned,exact ", {"exact": 0, "learned": 0}) == ("exact", "learned")
    assert _budgets("16, 4,1,4") == (1, 4, 16)
    for given in ("", "4,x", "0,1", "4,40000", "1.5"):
        with pytest.raises(UserError, match=r"config\.eval\.search_budgets=.*: must be whole numbers from 1 to 32767"):
            _budgets(given)
    with pytest.raises(UserError, match="search_methods: names nothing; give some of best_of_n"):
        _names("search_methods", " ,", METHODS)


def test_the_largest_best_of_n_comes_first_and_gives_the_others() -> None:
    grid = Grid(("best_of_n", "puct", "dvts"), (1, 4), ("learned", "exact"))
    assert grid.cells[0] == Cell("best_of_n", 4, "learned") and len(set(grid.cells)) == len(grid.cells) == 12
    assert [cell.method for cell in grid.cells[:4]] == ["best_of_n"] * 4
    assert sorted(grid.cells, key=grid.place)[:3] == [
        Cell("best_of_n", 1, "learned"), Cell("best_of_n", 4, "learned"), Cell("puct", 1, "learned")
    ]  # fmt: skip

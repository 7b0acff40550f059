"""`stepjax search` with a tiny run's policies: what a record holds, continuing, mistakes."""

import dataclasses
import json
import os
from pathlib import Path

import pytest
from runs.tiny_run import TinyRun, stepjax

from stepjax.config import Config, EnvironmentOptions
from stepjax.data.schema import LabelledSolution
from stepjax.errors import UserError
from stepjax.labels.sources import named_records
from stepjax.sample.show_responses import show_responses
from stepjax.search.command import check_search
from stepjax.search.tree import Tree
from stepjax.tasks.register_chain import RegisterChain

SMALL = ("--config.problems=4", "--config.n=4", "--config.width=2", "--config.sims=6", "--config.rows=8")
METHODS = ("best_of_n", "beam", "dvts", "puct", "sequential")


def read(path: Path) -> list[LabelledSolution]:
    return [LabelledSolution.from_json(json.loads(row)) for row in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(tiny: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.copy(tmp_path_factory.mktemp("search") / "run")


@pytest.fixture(scope="module")
def found(tiny: TinyRun, folder: Path) -> dict[str, Path]:
    """The file of each method, with the learned model."""
    for method in METHODS:
        assert stepjax("search", tiny.config, folder, *SMALL, f"--config.method={method}") == 0
    return {method: folder / "search" / f"{method}-test.jsonl" for method in METHODS}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_record_holds_tree_answers_and_cost(found: dict[str, Path], method: str) -> None:
    records = read(found[method])
    assert len({r.id for r in records}) == 4
    for record in records:
        tree, told = Tree.from_json(record.extra["tree"]), record.extra["search"]
        assert told["method"] == method and told["prm"] == "learned" and told["oracle"] is False
        chosen = told["candidates"][told["chosen"] or 0]
        assert tree.prefix(chosen["node"]) == tuple(record.extra["tokens"]) and told["path"][-1] == chosen["node"]
        assert chosen["correct"] == record.correct and told["any_right"] == any(
            c["correct"] for c in told["candidates"]
        )
        ended = {i for i, node in enumerate(tree.nodes) if node.end.value == "response"}
        assert all((c["node"] in ended) or (c["answer"] == -1 and not c["correct"]) for c in told["candidates"])
        if method == "puct":
            assert tree[0].visits == 7 and {c["node"] for c in told["candidates"]} == ended
        else:
            assert sum(c["share"] for c in told["candidates"]) == 4
        if told["chosen"] is not None:
            assert str(chosen["answer"]) in told["weights"]
            assert told["weights"][str(chosen["answer"])] == max(told["weights"].values())
        cost = told["cost"]
        assert cost["asked"] == sum(len(node.tokens) * node.count for node in tree.nodes) <= cost["generated"]
        assert cost["prefilled"] == len(record.extra["prompt_tokens"]) and cost["read"] and cost["flops"] > 0
        assert len(record.extra["prm"]) == len(record.steps) == len(record.extra["step_ratings"])


@pytest.mark.slow
def test_the_table_shows_accuracy_beside_cost(
    tiny: TinyRun, folder: Path, found: dict[str, Path], capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # in a narrow terminal cells are broken into lines
    before = found["beam"].read_bytes()
    assert stepjax("search", tiny.config, folder, *SMALL, "--config.method=beam") == 0
    printed = capfd.readouterr().out
    assert found["beam"].read_bytes() == before, "nothing is searched twice"
    records = read(found["beam"])
    right = sum(bool(r.correct) for r in records) / len(records)
    written = sum(r.extra["search"]["cost"]["generated"] for r in records) / len(records)
    assert f"{right:.1%}".replace("%", " %") in printed and f"{written:,.1f}" in printed and "FLOPs" in printed


@pytest.mark.slow
def test_an_oracle_is_called_one(tiny: TinyRun, folder: Path, capfd: pytest.CaptureFixture) -> None:
    out = folder / "oracle.jsonl"
    assert stepjax("search", tiny.config, folder, *SMALL, "--config.prm=exact", f"--config.out={out}") == 0
    assert "oracle run" in capfd.readouterr().out
    for record in read(out):
        told = record.extra["search"]
        assert told["oracle"] is True and record.correct == told["any_right"], "it chooses a right one where one is"
        assert told["cost"]["read"] == 0


@pytest.mark.slow
def test_the_records_are_solutions(found: dict[str, Path]) -> None:
    assert len(named_records(str(found["puct"]))) == 4
    assert "4 of 4 responses" in show_responses([str(found["puct"])])


@pytest.mark.slow
def test_a_file_of_other_options_is_not_continued(
    tiny: TinyRun, folder: Path, found: dict[str, Path], capfd: pytest.CaptureFixture
) -> None:
    before = found["best_of_n"].read_bytes()
    other = ("--config.split=train", "--config.search.seed=1", f"--config.out={found['best_of_n']}")
    assert stepjax("search", tiny.config, folder, *SMALL, *other) == 2
    assert "was made with" in capfd.readouterr().err and found["best_of_n"].read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("method", ["puct", "beam"])
def test_a_file_that_was_cut_off_is_continued_with_the_same_searches(
    tiny: TinyRun, folder: Path, found: dict[str, Path], tmp_path: Path, method: str
) -> None:
    cut = tmp_path / "cut.jsonl"
    lines = found[method].read_bytes().splitlines(keepends=True)
    cut.write_bytes(b"".join(lines[:2]) + lines[2][:300])
    cut.with_suffix(".options.json").write_bytes(found[method].with_suffix(".options.json").read_bytes())
    assert stepjax("search", tiny.config, folder, *SMALL, f"--config.method={method}", f"--config.out={cut}") == 0

    def same(path: Path) -> list[LabelledSolution]:
        records = read(path)
        for record in records:  # which prefixes share a batch, and so what is read again, may differ
            for name in ("computed_again", "flops"):
                del record.extra["search"]["cost"][name]
        return records

    assert same(cut) == same(found[method])
    assert cut.read_bytes().splitlines(keepends=True)[:2] == lines[:2]


@pytest.mark.slow
def test_a_file_that_is_cut_in_the_middle_is_one_line(
    tiny: TinyRun, folder: Path, found: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    lines = found["puct"].read_bytes().splitlines(keepends=True)
    for broken, said in (
        (lines[0] + lines[1][:300] + b"\n" + lines[2], "cut.jsonl:2: not JSON"),
        (lines[0] + lines[1].replace(b'"cost"', b'"coast"'), "has no search; name another config.search.out"),
    ):
        cut = tmp_path / "cut.jsonl"
        cut.write_bytes(broken)
        cut.with_suffix(".options.json").write_bytes(found["puct"].with_suffix(".options.json").read_bytes())
        assert stepjax("search", tiny.config, folder, *SMALL, "--config.method=puct", f"--config.out={cut}") == 2
        error = capfd.readouterr().err.strip()
        assert said in error and len(error.splitlines()) == 1 and cut.read_bytes() == broken


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--config.temperature=0",), "config.search.temperature: at 0 all samples of a prefix are the same"),
        (("--config.temperature=0", "--config.method=puct"), "method=puct needs several; raise it"),
        (("--config.n=6", "--config.width=4", "--config.method=dvts"), "must be a multiple of config.search.width=4"),
        (("--config.n=2", "--config.width=4", "--config.method=beam"), "must be a multiple of config.search.width=4"),
        (("--config.budget=23",), "config.search.budget=23: one response may take 24 tokens"),
        (("--config.prm=value",), "config.search.prm=value: the process reward model here rates steps"),
        (("--config.method=mcts",), "config.search.method: must be one of best_of_n, beam"),
        (("--config.out=page.html",), "config.search.out=page.html: the page stands beside the records"),
        (("--config.sim=3",), "did you mean '--config.sims'?"),
    ],
)
def test_mistakes_take_one_line(
    tiny: TinyRun, folder: Path, capfd: pytest.CaptureFixture, arguments: tuple[str, ...], said: str
) -> None:
    small = [a for a in SMALL if a.partition("=")[0] not in {g.partition("=")[0] for g in arguments}]
    assert stepjax("search", tiny.config, folder, *small, *arguments) == 2
    error = capfd.readouterr().err.strip()
    assert said in error and "Traceback" not in error and len(error.splitlines()) == 1


def test_a_policy_does_not_search_without_its_environment() -> None:
    config = dataclasses.replace(Config(), environment=EnvironmentOptions(name="guess"))
    with pytest.raises(UserError, match=r"config\.environment\.name=guess: a search does not ask environments"):
        check_search(config)


@pytest.mark.slow
def test_scorers_that_are_not_there(
    tiny: TinyRun, tmp_path: Path, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tiny.copy(tmp_path / "bare", without=("prm", "ppo"))
    assert stepjax("search", tiny.config, bare, *SMALL) == 2
    assert "stage prm has no checkpoint here" in capfd.readouterr().err
    monkeypatch.setattr(RegisterChain, "rate_steps", lambda self, problem, steps: None)
    exact = (*SMALL, "--config.prm=exact")
    assert stepjax("search", tiny.config, bare, *exact, "--config.method=beam") == 2
    assert "has no verifier of single steps, which method=beam needs; take best_of_n" in capfd.readouterr().err
    assert stepjax("search", tiny.config, bare, *exact, "--config.problems=1") == 0
    assert os.path.exists(bare / "search" / "best_of_n-test.jsonl")


@pytest.mark.slow
def test_a_budget_holds(tiny: TinyRun, folder: Path) -> None:
    out = folder / "budget.jsonl"
    arguments = (*SMALL, "--config.budget=30", "--config.n=64", "--config.prm=uniform", f"--config.out={out}")
    assert stepjax("search", tiny.config, folder, *arguments) == 0
    for record in read(out):
        assert 0 < record.extra["search"]["cost"]["asked"] <= 30

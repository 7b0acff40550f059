"""Damaged files of a work directory: what can be read is used, the rest is said in one line; nothing sound is lost."""

import json
import random
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation.test_kinds import FOUND, GOLD, write_records
from fuzz.commands import assert_readable, command, elsewhere, refused
from fuzz.fuzzing import Fuzz
from fuzz.junk import ANY_TEXT, JSON, MODEL_TEXT, changed, damaged
from hypothesis import strategies as st
from report.report_fixture import evaluation, ppo_records, samples, sft_records
from report.test_hacks import HACKS
from report.test_page import Page
from runs.tiny_run import OPTIONS, write_config
from workdir.checkpoint_state import abstract, make_state, mesh, same

import stepjax.report.page
from stepjax.errors import UserError
from stepjax.evaluation.labels import label_pair
from stepjax.measures.agreement import agreement_report
from stepjax.measures.best_of_n import Pool, best_of_n_report
from stepjax.measures.prmbench import prmbench_report
from stepjax.measures.step_scores import ScoredSolution, first_error_report, step_score_report
from stepjax.report.read import read_run
from stepjax.workdir.checkpoints import Checkpoints
from stepjax.workdir.folder import open_workdir
from stepjax.workdir.json_file import plain
from stepjax.workdir.metrics import Metrics

FUZZ = Fuzz(share=0.15)

SCORES = [np.array([0.9, 0.2]), np.array([0.9, 0.9, 0.1]), np.array([0.1, 0.9])]
SCORED = [
    ScoredSolution(x, [1] * (len(x) - 1) + [-1], list(x), len(x) - 1, True, tuning=i == 0) for i, x in enumerate(SCORES)
]
ERRORS = [[False, True], [False, True, True], [False, False]]
MEASURES = plain(
    {
        "labels": agreement_report([label_pair(FOUND[0], GOLD[2], 0.5), label_pair(FOUND[1], GOLD[0], 0.5)]),
        "prm": step_score_report(SCORED) | {"data": "there"},
        "processbench": {"all": first_error_report(SCORED), "subsets": {}, "mean_f1": 0.5},
        "prmbench": prmbench_report(SCORES, ERRORS, ["a", "circular", "correct"]),
        "best_of_n": best_of_n_report([Pool(np.ones(2, bool), np.zeros(2, int), SCORES[:2], np.ones(2))]),
    }
)  # fmt: skip
RNG = random.Random(0)
GOOD: dict[str, Any] = {
    "config.json": {"seed": 7, "task": {"name": "gsm8k"}, "ppo": {"clip": [0.2], "streams": {"a": {"weight": 1.0}}}},
    "metrics.jsonl": [*sft_records(RNG)[:3], *ppo_records(RNG, 18)],
    "samples.jsonl": samples(RNG, 18, hostile=False)[:9],
    "eval.json": evaluation() | {"measures": MEASURES},
    "hacks.json": HACKS,
}  # fmt: skip


def encoded(value: Any) -> bytes:
    rows = value if isinstance(value, list) else [value]
    return "".join(json.dumps(row) + "\n" for row in rows).encode("utf-8", "surrogatepass")


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@st.composite
def files(draw: st.DrawFn) -> dict[str, bytes]:
    """The files of a run, one or two of them changed, damaged or absent."""
    found = {name: encoded(value) for name, value in GOOD.items()}
    for name in draw(st.lists(st.sampled_from(sorted(GOOD)), min_size=1, max_size=2)):
        how = draw(st.integers(0, 9))
        if how == 0:
            found.pop(name, None)
        elif how <= 6:
            found[name] = encoded(draw(changed(GOOD[name], JSON | MODEL_TEXT)))
        else:
            found[name] = draw(damaged(found.get(name, b"{}")))
    return found


TAGS = set[str]()
"""Elements that the page's template writes; text of a run adds none."""
TEMPLATE = Path(stepjax.report.page.__file__).with_name("page.html.j2")


@FUZZ.holds(few=12, files=files())
def the_report_of_damaged_files(files: dict[str, bytes]) -> None:
    with elsewhere() as folder:
        if not TAGS:
            command("report", f"--workdir={write(folder / 'good', {n: encoded(v) for n, v in GOOD.items()})}")
            TAGS.update(tag for tag, _ in Page((folder / "good" / "report.html").read_text()).tags)
            TAGS.update(re.findall(r"<([a-z][a-z0-9]*)", TEMPLATE.read_text(encoding="utf-8")))
        said = command("report", f"--workdir={write(folder / 'run', files)}")
        assert said.status == (0 if set(files) - {"hacks.json"} else 2)
        page = Page((folder / "run" / "report.html").read_text(encoding="utf-8"))
    assert not page.open and {tag for tag, _ in page.tags} <= TAGS, {tag for tag, _ in page.tags} - TAGS
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on") and re.fullmatch("[a-z-]+", name.lower()), (tag, name)
            assert name not in ("src", "action") and (name != "href" or re.fullmatch("#[a-z-]+", value or "")), value
            assert name != "style" or re.fullmatch(r"[a-z0-9 :;.%#(),-]*", value or ""), value


@FUZZ.holds(few=15, one=files(), two=files())
def a_comparison_of_damaged_runs(one: dict[str, bytes], two: dict[str, bytes]) -> None:
    with elsewhere() as folder:
        for name, content in (("one0", one), ("two1", two)):
            write(folder / name, content)
        for more in ([], ["--markdown"]):
            said = command("compare", "one0", "two1", *more)
            assert said.status == 0 or re.search("one0|two1", said.errors[0]), said.errors


OWN = {"seed": 3, "ppo": {"clip": 0.2}, "name": "run"}


@FUZZ.holds(
    few=30,
    content=damaged(encoded(OWN)) | changed(OWN).map(encoded),
    resumable=st.sampled_from([(), ("seed",), ("ppo.",)]),
)
def a_work_directory_that_is_continued(content: bytes, resumable: tuple[str, ...]) -> None:
    with elsewhere() as folder:
        path = write(folder / "run", {"config.json": content}) / "config.json"
        try:
            with open_workdir(folder / "run", OWN, resumable):
                assert json.loads(path.read_text()) == OWN
        except UserError as error:
            assert_readable(refused(error))
            assert str(folder / "run") in str(error) and path.read_bytes() == content


@FUZZ.holds(
    few=20,
    files=files(),
    stage=st.sampled_from(["sft", "ppo", "prm"]),
    step=st.integers(-1, 30),
    values=st.dictionaries(ANY_TEXT, JSON | st.floats(), max_size=3),
)
def logs_that_are_continued(files: dict[str, bytes], stage: str, step: int, values: dict[str, Any]) -> None:
    with elsewhere() as folder:
        write(folder, files)
        before = {name: files.get(name, b"").splitlines(keepends=True) for name in ("metrics.jsonl", "samples.jsonl")}
        with Metrics(folder, stage) as metrics:
            metrics.resume(step)
            assert all(isinstance(record, dict) for record in metrics.logged())
            metrics.write(step + 1, values)
            metrics.append_samples(step + 1, [values])
        for name, lines in before.items():
            kept = (folder / name).read_bytes().splitlines(keepends=True)
            assert json.loads(kept[-1])["step"] == step + 1
            assert [raw for raw in lines if raw in kept] == kept[:-1], "whole lines stay as they were"
            others = [raw for raw in lines if b'"stage": "sft"' in raw and whole(raw)]
            assert stage == "sft" or set(others) <= set(kept)
        assert not any(note.startswith("metrics") for note in read_run(folder).notes)


def whole(raw: bytes) -> bool:
    try:
        return raw.endswith(b"\n") and isinstance(json.loads(raw), dict)
    except (ValueError, RecursionError):
        return False


@pytest.fixture(scope="module", autouse=True)
def saved() -> Iterator[None]:
    """Checkpoints of steps 1 and 2, copied for each example; a config of a tiny run."""
    with tempfile.TemporaryDirectory() as name:
        global SAVED, CONFIG
        SAVED, CONFIG = Path(name) / "sft", write_config(Path(name) / "tiny.py", OPTIONS)
        with Checkpoints(SAVED) as checkpoints:
            for step in (1, 2):
                checkpoints.save(step, STATE, {"step": step, "at": [1, 2]})
        yield


SAVED = CONFIG = Path()
STATE = make_state(mesh(1))
MANIFEST = {"step": 2, "host": {"step": 2}, "leaves": {"policy/params/embed": "float32[16,8]"}, "files": {"a/b": 3}}


@FUZZ.holds(
    few=8,
    which=st.sampled_from(["1", "2", "both"]),
    change=st.none() | changed(MANIFEST) | damaged(encoded(MANIFEST)),
    name=st.integers(0, 30),
    cut=st.integers(0, 300),
    stray=st.sampled_from(["", "007", "3", "3.partial", "²", "٣", "9" * 200, "2.deleted"]),
)
def checkpoints_that_are_damaged(which: str, change: Any, name: int, cut: int, stray: str) -> None:
    with elsewhere() as folder:
        shutil.copytree(SAVED, folder / "sft")
        if stray:
            (folder / "sft" / stray).mkdir(exist_ok=True)
        for step in ("1", "2") if which == "both" else (which,):
            manifest = folder / "sft" / step / "checkpoint.json"
            if isinstance(change, bytes):
                manifest.write_bytes(change)
            elif change is not None:
                own = json.loads(manifest.read_text())
                new = change
                if isinstance(change, dict):
                    both = {k for k, v in change.items() if isinstance(v, dict) and isinstance(own.get(k), dict)}
                    new = {k: {**own[k], **v} if k in both else v for k, v in change.items()}
                manifest.write_bytes(encoded(new))
            else:
                found = sorted(p for p in (folder / "sft" / step).rglob("*") if p.is_file())
                path = found[name % len(found)]
                path.write_bytes(path.read_bytes()[:cut]) if cut else path.unlink()
        notices: list[str] = []
        try:
            with Checkpoints(folder / "sft", notify=notices.append) as checkpoints:
                checkpoints.latest()
                back = checkpoints.resume(abstract(STATE))
                if back is not None:
                    same(back[0], STATE)
                elif which != "both":
                    raise AssertionError(f"a whole checkpoint was not read: {notices}")
        except UserError as error:
            assert_readable(refused(error))
            assert str(folder / "sft") in str(error)
        for notice in notices:
            assert_readable(f"stepjax: {notice}")


@FUZZ.holds(
    few=15,
    content=st.one_of(damaged(encoded(OWN)), JSON.map(encoded)) | st.none(),
    name=st.sampled_from(
        [
            "config.json",
            "start.json",
            "eval.json",
            "tokenizer/tokenizer.json",
            "tokenizer/tokenizer_config.json",
            "metrics.jsonl",
            "checkpoints/sft/1/checkpoint.json",
        ]
    ),
    how=st.sampled_from(["ppo", "prm", "eval", "export", "label", "base"]),
)
def a_command_in_a_damaged_run(content: bytes | None, name: str, how: str) -> None:
    with elsewhere() as folder:
        run = folder / "run"
        assert "no checkpoint" in command("ppo", f"--config={CONFIG}", f"--workdir={run}").errors[0]
        command_config(run)
        shutil.copytree(SAVED, run / "checkpoints" / "sft")
        if content is not None:
            (run / name).parent.mkdir(parents=True, exist_ok=True)
            (run / name).write_bytes(content)
        elif (run / name).exists():
            (run / name).unlink()
        target = ["--config.base=run", "--workdir=new"] if how == "base" else ["--workdir=run"]
        more = ["--config.export.out=out"] if how == "export" else []
        said = command("ppo" if how == "base" else how, f"--config={CONFIG}", *target, *more)
        assert said.status == 2, "the checkpoint is of another model"


def command_config(run: Path) -> None:
    """What a run writes before it trains."""
    from stepjax.options import parse
    from stepjax.runs.opening import open_run

    with open_run(parse([f"--config={CONFIG}"]).config, run):
        pass


@FUZZ.holds(
    few=6, content=damaged(encoded(GOOD["eval.json"])) | changed(GOOD["eval.json"]).map(encoded) | JSON.map(encoded)
)
def an_evaluation_beside_a_damaged_one(content: bytes) -> None:
    with elsewhere() as folder:
        data, gold = write_records(folder / "a.jsonl", FOUND), write_records(folder / "b.jsonl", GOLD)
        command_config(folder / "run")
        (folder / "run" / "eval.json").write_bytes(content)
        paths = [f"--config.eval.data={data}", f"--config.eval.gold={gold}", "--config.kind=labels"]
        said = command("eval", f"--config={CONFIG}", "--workdir=run", *paths)
        assert said.status == 0, said.errors
        assert json.loads((folder / "run" / "eval.json").read_text())["measures"]["labels"]["solutions"] == 3


@pytest.mark.parametrize("name", FUZZ.names)
def test_a_few(name: str) -> None:
    FUZZ.few(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", FUZZ.names)
def test_for_minutes(name: str) -> None:
    FUZZ.minutes(name)

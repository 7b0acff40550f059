"""`stepjax label` with a tiny run's policies: completions, tree search, a judge of our own, consensus, continuing."""

import dataclasses
import json
from collections import Counter

import jax
import numpy as np
import pytest
from labels.chains import run_alone
from runs.tiny_run import stepjax

from stepjax.data.schema import LabelledSolution, line
from stepjax.errors import UserError
from stepjax.labels.completer import Completer, number_of
from stepjax.labels.monte_carlo import Completions, monte_carlo
from stepjax.labels.policy import load_completer
from stepjax.labels.solution import Request
from stepjax.labels.sources import named_records, sampled_records, solutions
from stepjax.options import parse
from stepjax.pipeline import run_stages
from stepjax.runs.opening import open_run

SMALL = ("--config.problems=6", "--config.samples=2", "--config.completions=4", "--config.rows=16")


def read(path):
    return [LabelledSolution.from_json(json.loads(row)) for row in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def run_folder(tiny, tmp_path_factory):
    return tiny.copy(tmp_path_factory.mktemp("label") / "run")


@pytest.fixture(scope="module")
def labelled(tiny, run_folder):
    """Monte Carlo labels of a run's own responses."""
    assert stepjax("label", tiny.config, run_folder, *SMALL) == 0
    return run_folder / "labels" / "monte_carlo.jsonl"


def opened(tiny, folder, *arguments):
    config, workdir = parse([f"--config={tiny.config}", f"--workdir={folder}", *arguments])
    return open_run(config, workdir)


LABEL = tuple(a.replace("--config.", "--config.label.") for a in SMALL)


def test_every_label_has_its_cost_and_where_it_comes_from(labelled):
    found = read(labelled)
    assert len(found) == len({r.id for r in found}) == 12
    for record in found:
        label, cost = record.extra["label"], record.extra["cost"]
        assert label["method"] == "monte_carlo" and label["completer"]["stage"] == "sft" and label["seed"] == 0
        assert label["completer"]["step"] == 150
        assert record.labelled == len(record.steps) and record.kind == "value"
        assert cost["completions"] == sum(record.completions) and cost["tokens"] == sum(record.tokens)
        counts = [c for c in label["right_of"] if c is not None]
        assert all(0 <= right <= total == 4 for right, total in counts)
        assert record.ratings[: len(counts)] == tuple(1 if right else -1 for right, _ in counts)
        if record.correct is not None:
            assert record.ratings[-1] == (1 if record.correct else -1) and record.completions[-1] == 0


def test_continued_after_a_kill_it_is_the_same(tiny, run_folder, labelled, capsys):
    whole = labelled.read_text().splitlines(keepends=True)
    out = run_folder / "labels" / "again.jsonl"
    out.write_text("".join(whole[:5]) + whole[5][:40])
    out.with_suffix(".options.json").write_text(labelled.with_suffix(".options.json").read_text())
    assert stepjax("label", tiny.config, run_folder, *SMALL, f"--config.out={out}") == 0
    assert out.read_text().splitlines(keepends=True)[:5] == whole[:5]
    assert Counter(out.read_text().splitlines()) == Counter(labelled.read_text().splitlines())
    assert stepjax("label", tiny.config, run_folder, *SMALL, "--config.completions=8", f"--config.out={out}") == 2
    assert "made with completions=4, not 8" in capsys.readouterr().err


def test_prefixes_are_the_sampled_tokens_and_completions_their_own(tiny, run_folder, labelled):
    with opened(tiny, run_folder, *LABEL) as run:
        found = solutions(run, sampled_records(run))
        completer, _ = load_completer(run)
        one = max(found, key=lambda s: s.steps)
        assert list(one.tokens) == one.record.extra["tokens"]
        index, _ = run.splitter.split_host(one.tokens)
        for k in range(one.steps + 1):
            assert list(one.prefix(k).tokens) == [t for t, i in zip(one.tokens, index, strict=True) if i < k]
        requests = [Request(one.prefix(k), 5) for k in range(one.steps)]
        together = completer(requests)
        assert [len(of) for of in together] == [5] * one.steps
        for request, several in zip(requests, together, strict=True):  # alone, in another order: the same
            assert completer([Request(request.prefix, 2, 3), Request(request.prefix, 3)]) == [several[3:], several[:3]]
            for completion in several:
                text = run.tokenizer.decode([*request.prefix.tokens, *completion.tokens], skip_special_tokens=True)
                assert completion.correct == (completion.finished and run.task.grade(one.problem, text))
        assert len({number_of(r.prefix) for r in requests}) == len(requests)
        assert len({c.tokens for c in completer([Request(one.prefix(0), 40)])[0]}) > 1


def test_nothing_is_compiled_after_the_first_rollout(tiny, run_folder, labelled):
    compiled = []
    with opened(tiny, run_folder, *LABEL) as run:
        found = solutions(run, sampled_records(run))
        completer, _ = load_completer(run)
        completer([Request(found[0].prefix(0), 1)])
        jax.monitoring.register_event_duration_secs_listener(
            lambda name, seconds, **_: compiled.append(name) if "backend_compile" in name else None
        )
        before, rollouts = len(compiled), []
        sample = completer.rollout
        completer.rollout = lambda *args: rollouts.append(1) or sample(*args)
        for one in found:
            run_alone(monte_carlo(one, Completions(3, interval=0.3, most=9)), completer)
        completer([Request(found[i].prefix(k), 7) for i in range(4) for k in range(found[i].steps)])
        assert len(rollouts) > 3 and len(compiled) == before
    jax.monitoring.clear_event_listeners()


def test_labels_of_a_file_are_those_of_its_text(tiny, run_folder, labelled, tmp_path):
    """Solutions from outside have no tokens; a tokenizer of one token a character gives those that were sampled."""
    bare = [
        r.with_labels(ratings=(), first_error=None, correct=None, completions=(), tokens=(), kind="step", extra={})
        for r in read(labelled)
        if r.correct is not None
    ]
    data = tmp_path / "bare.jsonl"
    data.write_text("".join(line(r) for r in bare))
    out = tmp_path / "labels.jsonl"
    assert stepjax("label", tiny.config, run_folder, *SMALL, f"--config.data={data}", f"--config.out={out}") == 0
    given = {r.id: r for r in read(labelled)}
    assert {r.id for r in read(out)} == {r.id for r in bare}
    for record in read(out):
        assert (record.ratings, record.correct) == (given[record.id].ratings, given[record.id].correct)


def test_names_are_given_where_a_file_has_none(tmp_path):
    data = tmp_path / "data.jsonl"
    some = [LabelledSolution("p", ("a",)), LabelledSolution("p", ("b",)), LabelledSolution("p", ("a",))]
    data.write_text("".join(line(r) for r in some))
    names = [r.id for r in named_records(str(data))]
    assert len(set(names)) == 3 and names[2] == f"{names[0]}#2" and names == [r.id for r in named_records(str(data))]


def test_omegaprm_and_soft_and_advances(tiny, run_folder, labelled, capsys):
    searches = "--config.omega.searches=2"
    assert stepjax("label", tiny.config, run_folder, *SMALL, "--config.method=omegaprm", searches) == 0
    found, given = read(run_folder / "labels" / "omegaprm.jsonl"), read(labelled)
    by_id = {r.id: r for r in found}
    assert {r.id for r in given} <= by_id.keys() and len(found) == len(by_id)
    for record in found:
        assert record.first_error is not None and record.labelled == len(record.steps)
        assert record.labeller == "omegaprm/hard" and record.extra["cost"]["completions"] % 4 == 0
        if record.correct:
            assert record.first_error == -1 and record.extra["label"]["method"] == "omegaprm"
    assert "Labels by omegaprm" in capsys.readouterr().out
    out = run_folder / "labels" / "soft.jsonl"
    assert stepjax("label", tiny.config, run_folder, *SMALL, "--config.kind=soft", f"--config.out={out}") == 0
    hard = {r.id: r for r in given}
    for record in read(out):
        assert [v > 0 for v in record.values] == [r > 0 for r in hard[record.id].ratings]
    out = run_folder / "labels" / "advances.jsonl"
    assert stepjax("label", tiny.config, run_folder, *SMALL, "--config.kind=advances", f"--config.out={out}") == 0
    soft = {r.id: r for r in read(run_folder / "labels" / "soft.jsonl")}
    for record in read(out):
        assert record.kind == "step" and record.extra["label"]["right_of"][0][1] == 4
        right, total = record.extra["label"]["right_of"][0]
        values = np.array([right / total, *soft[record.id].values])
        assert record.ratings == tuple(np.sign(np.diff(values)).astype(int).tolist())


def test_consensus_of_two_files(tiny, run_folder, labelled, capsys, tmp_path):
    other = tmp_path / "exact.jsonl"
    found = read(labelled)
    flipped = [r.with_labels(ratings=tuple(-x if k == 0 else x for k, x in enumerate(r.ratings))) for r in found]
    other.write_text("".join(line(r) for r in flipped))
    out = tmp_path / "both.jsonl"
    files = (f"--config.first={labelled}", f"--config.second={other}", f"--config.out={out}")
    assert stepjax("label", tiny.config, tmp_path / "none", "--config.method=consensus", *files) == 0
    assert not (tmp_path / "none").exists()
    for record, one in zip(read(out), found, strict=True):
        assert record.ratings == (None, *one.ratings[1:])
    figures = json.loads(out.with_suffix(".agreement.json").read_text())
    steps = sum(len(r.steps) for r in found)
    assert figures["both_labelled"] == steps and figures["kept"] == steps - len(found)
    assert "Agreement" in capsys.readouterr().out


def test_the_policy_as_judge_says_nothing_useful_and_that_is_recorded(tiny, run_folder, labelled, tmp_path, capsys):
    rubric = tmp_path / "short.j2"
    rubric.write_text("{{ problem }}{% for step in steps %}{{ step }};{% endfor %}")
    judge = ("--config.method=judge", f"--config.judge.rubric={rubric}", "--config.judge.prompt_tokens=128")
    more = ("--config.judge.answer_tokens=8", "--config.judge.asks=2", "--config.judge.temperature=1")
    assert stepjax("label", tiny.config, run_folder, *SMALL, *judge, *more) == 2
    found = read(run_folder / "labels" / "judge.jsonl")
    assert {r.id for r in found} == {r.id for r in read(labelled)}
    for record in found:
        label, cost = record.extra["label"], record.extra["cost"]
        assert record.labelled == 0 and label["malformed"] in (1, 2) and label["model"] == "sft@150"
        assert "the reply" in label["unlabelled"] or "longer than 128" in label["unlabelled"]
        assert 0 <= cost["tokens"] <= 16 and cost["completions"] == label["malformed"]
    told = capsys.readouterr()
    assert "not labelled" in told.out and f"none of the {len(found)} solutions was labelled: the " in told.err
    causes = {record.extra["label"]["unlabelled"] for record in found}
    assert "the reply was cut off (finish_reason=length, config.label.judge.answer_tokens=8)" in causes
    assert all(cause in told.err for cause in causes) and len(causes) <= 3
    out = tmp_path / "coarse.jsonl"
    coarse = ("--config.method=judge", "--config.judge.rubric=coarse", "--config.judge.prompt_tokens=64")
    assert stepjax("label", tiny.config, run_folder, *SMALL, *coarse, f"--config.out={out}") == 2
    assert "config.label.judge.prompt_tokens" in capsys.readouterr().err
    assert all("longer than 64 tokens" in r.extra["label"]["unlabelled"] for r in read(out))


def test_another_runs_policy_completes(tiny, run_folder, labelled, tmp_path):
    there, out = tiny.copy(tmp_path / "there"), tmp_path / "labels.jsonl"
    more = (f"--config.completer={there}", "--config.stage=ppo", f"--config.out={out}")
    assert stepjax("label", tiny.config, run_folder, *SMALL, *more) == 0
    named = read(out)[0].extra["label"]["completer"]
    assert named == {"workdir": str(there), "stage": "ppo", "step": 12}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("--config.temperature=0",), "all completions of a prefix are the same"),
        (("--config.completer=absent",), "config.label.completer=absent"),
        (("--config.data=absent.jsonl",), "absent.jsonl"),
        (("--config.method=guess",), "must be one of"),
        (("--config.method=consensus",), "config.label.out"),
        (("--config.split=none",), "no split"),
    ],
)
def test_mistakes_are_one_line(tiny, run_folder, labelled, change, why, capsys):
    assert stepjax("label", tiny.config, run_folder, *SMALL, *change) == 2
    error = capsys.readouterr().err
    assert why in error and error.count("\n") == 1


def test_long_responses_count_as_cut_off(tiny, run_folder, labelled):
    with opened(tiny, run_folder, *LABEL) as run:
        completer, _ = load_completer(run)
        one = solutions(run, sampled_records(run))[0]
        free = completer([Request(one.prefix(1), 12)])[0]
        tight = Completer(run, completer.params, rows=16, temperature=1.0, seed=0)
        tight.longest = len(one.prefix(1).tokens) + 3
        for a, b in zip(free, tight([Request(one.prefix(1), 12)])[0], strict=True):
            assert a.tokens == b.tokens and b.finished == (a.finished and len(a.tokens) <= 3)


def test_labels_are_a_stage_of_a_run(tiny, labelled, tmp_path, capsys):
    """Its own rollouts are labelled, and the process reward model learns from them, by one command and again."""
    folder = tmp_path / "run"
    options = ("--config.prm.data={workdir}/labels/monte_carlo.jsonl", "--config.prm.target=value", *LABEL)
    options = (*options, f"--config.base={tiny.workdir}", "--config.prm.held_out=0.3", "--config.prm.updates=3")
    config, _ = parse([f"--config={tiny.config}", *options])
    run_stages(config, folder, ["label", "prm"])
    found = read(folder / "labels" / "monte_carlo.jsonl")
    assert [(r.id, r.steps, r.ratings) for r in found] == [(r.id, r.steps, r.ratings) for r in read(labelled)]
    written = capsys.readouterr().out
    assert "PRM data: 10 solutions to learn from" in written
    run_stages(config, folder, ["label", "prm"])  # nothing is left to do
    assert "PRM data: 10" not in capsys.readouterr().out
    moved = folder.rename(tmp_path / "moved")
    run_stages(config, moved, ["prm"])
    (moved / "labels" / "monte_carlo.jsonl").write_text("")
    with pytest.raises(UserError, match=r"labels.monte_carlo\.jsonl"):
        run_stages(config, moved, ["prm"])
    consensus = dataclasses.replace(config, label=dataclasses.replace(config.label, method="consensus"))
    with pytest.raises(
        UserError, match=r"config\.label\.method=consensus: it needs no run; start it with `stepjax label`"
    ):
        run_stages(consensus, folder, ["label"])

"""The study of labels: what each kind says of a response, values by completions, the table over seeds."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
from labels.chains import Script, text_of

from stepjax.config import Config, PRMOptions, PromptOptions
from stepjax.data.framing import Framing
from stepjax.runs.responses import read_response
from stepjax.steps import StepSplitter
from stepjax.studies import prm_study
from stepjax.studies.prm_study import FILE, main, of_soft_labels
from stepjax.studies.prm_study_labels import COMPLETIONS, KINDS, encoded, example, label_figures, with_values
from stepjax.studies.prm_study_measures import WORLDS
from stepjax.tasks.base import Problem
from stepjax.tasks.prompts import Prompt
from stepjax.tasks.register_chain import RegisterChain, build_tokenizer

TASK, TOKENIZER = RegisterChain(), build_tokenizer()
RUN = SimpleNamespace(
    task=TASK,
    tokenizer=TOKENIZER,
    splitter=StepSplitter(TOKENIZER, TASK.separator),
    framing=Framing.of(TOKENIZER),
    prompt=Prompt(PromptOptions(), Framing.of(TOKENIZER), TASK),
    config=Config(),
)
SOFT = PRMOptions(target="value", objective="bce", classes=2)
PROBLEM = Problem("test/0", "a=7;b=a+5;c=b*3;?c\n", "6")


def response(text: str, *, finished: bool = True):
    ids = TOKENIZER.encode(text, add_special_tokens=False)
    prompt = TOKENIZER.encode(PROBLEM.prompt, add_special_tokens=False)
    return read_response(RUN, PROBLEM, prompt, [*ids, RUN.framing.end] if finished else ids, finished)


WRONG = response("b=7+5=3\nc=3*3=9\n?9")  # wrong at its first step
RIGHT = response("b=7+5=2\nb=2\nc=2*3=6\n?6")
CUT = response("b=7+5=2\nc=2*", finished=False)


def valued(responses, *, completions=4, script=None):
    script = script or Script(lambda prefix, number: "b=7+5=2" in text_of(prefix) and number % 4 < 2)
    return with_values(RUN, responses, script, completions, enough=1000, label="Values")


def test_what_each_kind_of_label_says():
    values = [0.125, 0.0, 0.0]
    said = {kind: list(labels(WRONG, values)) for kind, labels in KINDS.items()}
    assert said["exact"][0] == 0 and said["exact"][-1] == 0
    assert said["hard"] == [1, 0, 0], "one lucky completion makes the first step good"
    assert said["soft"] == values
    assert said["value"] == [0, 0, 0]
    assert said["outcome"] == [None, None, 0]
    right = {kind: list(labels(RIGHT, [0.5, 0.5, 1.0, 1.0])) for kind, labels in KINDS.items()}
    assert right["exact"] == [1] * 4, "a neutral step is right"
    assert right["soft"] == [0.5, 0.5, 1, 1] and right["outcome"] == [None, None, None, 1]
    assert list(KINDS["exact"](CUT, [0.0] * 2)) == [1, None], "a step that was cut off is no step"
    figures = label_figures([WRONG], [values])
    assert figures["exact"] == {"steps": 3, "same": 1.0} and figures["hard"]["same"] == pytest.approx(2 / 3)
    assert figures["outcome"]["steps"] == 1


def test_labels_stand_on_the_last_token_of_their_steps():
    (solution,) = valued([RIGHT])
    found = example(solution, [1.0, None, 0.375, 0.0], SOFT)
    at = np.flatnonzero(found.targets >= 0)
    ends = len(RIGHT.prompt) + np.flatnonzero(RUN.splitter.split_host(RIGHT.tokens)[1])
    assert encoded(solution).ends.tolist() == ends.tolist()
    assert at.tolist() == [ends[0], ends[2], ends[3]]
    assert found.values[at].tolist() == [1.0, 0.375, 0.0]
    assert found.targets[at].tolist() == [2, 2, 0], "some completion was right: the language model learns the step"
    assert found.tokens.tolist() == [*RIGHT.prompt, *RIGHT.tokens]
    assert (found.targets[: len(RIGHT.prompt)] == -2).all() and len(found.targets) == len(found.tokens)


def test_values_are_shares_of_right_completions():
    script = Script(lambda prefix, number: "b=7+5=2" in text_of(prefix) and number % 4 < 2)
    found = valued([RIGHT, WRONG, CUT], script=script)  # the order is kept, whichever ends first
    assert [s.record.values for s in found] == [(0.5, 0.5, 0.5, 1.0), (0.0, 0.0, 0.0), (0.5, 0.5)]
    assert [s.tokens for s in found] == [tuple(r.tokens) for r in (RIGHT, WRONG, CUT)]
    assert script.completions == 4 * (3 + 2 + 2), "after the end there is nothing to complete"


def test_a_response_of_one_step_needs_no_completion_and_keeps_its_place():
    whole = response("?6")
    assert [s.record.values for s in valued([RIGHT, whole])] == [(0.5, 0.5, 0.5, 1.0), (1.0,)]


def test_models_have_two_classes_whatever_the_base_has():
    @dataclasses.dataclass(frozen=True)
    class Some:
        config: Config

    found = of_soft_labels(Some(dataclasses.replace(Config(), seed=7))).config
    assert (found.prm.objective, found.prm.classes, found.eval.seed) == ("bce", 2, 7)


def study(shift: float) -> dict:
    curves = {name: {"mean": [0.5, 0.5, 0.6 + shift, 0.7, 0.8, 0.9, 1.0]} for name in ("pass", "majority")}
    curves |= {f"best/{how}": curves["pass"] for how in ("min", "product", "last", "mean")}
    report = {
        "first_error": {"fixed": {"f1": 0.5 + shift}, "tuned": {"f1": 0.6}},
        "steps": {"auc": 0.7},
        "values": {"auc": 0.8, "mean_difference": None},
        "best_of_n": {"sizes": [1, 2, 4, 8, 16, 32, 64], "curves": curves},
    }
    return {"worlds": {name: {"accuracy": 0.5, "kinds": dict.fromkeys(KINDS, report)} for name in WORLDS}}


def test_the_table_has_mean_and_spread_over_seeds(tmp_path, capsys):
    for i, shift in enumerate((0.0, 0.2)):
        (tmp_path / str(i)).mkdir()
        (tmp_path / str(i) / FILE).write_text(json.dumps(study(shift)))
    main(["--table", str(tmp_path / "0"), str(tmp_path / "1")])
    told = capsys.readouterr().out
    assert "60.0±14.1" in told and all(name in told for name in WORLDS) and "nan" in told
    with pytest.raises(prm_study.UserError, match="--table"):
        main(["--table", str(tmp_path)])


@pytest.mark.slow
def test_a_small_study_from_its_command_and_again(tiny, tmp_path, capsys):
    options = {"prm.samples": 16, "prm.updates": 2, "eval.problems": 2, "eval.pool": 4, "eval.rows": 16}
    config = tiny.with_options(tmp_path, **options)
    arguments = [f"--config={config}", f"--config.base={tiny.workdir}", f"--workdir={tmp_path / 'study'}"]
    main(arguments)
    found = json.loads((tmp_path / "study" / FILE).read_text())
    assert set(found["worlds"]) == set(WORLDS) and all(set(w["kinds"]) == set(KINDS) for w in found["worlds"].values())
    assert found["labels"]["exact"]["same"] == 1.0 and found["completions"]["hard"] % COMPLETIONS == 0
    for kind in KINDS:
        figures = found["worlds"]["trained in"]["kinds"][kind]
        assert figures["values"]["steps"] > 0 and 0 <= figures["values"]["mean_difference"] <= 1
        confusion = np.array(figures["classes"]["confusion"])
        assert confusion[:, 1].sum() == 0, "the models have no neutral class"
    main(arguments)  # the models are trained: they are only measured
    again = json.loads((tmp_path / "study" / FILE).read_text())
    assert again["worlds"] == found["worlds"] and again["labels"] == found["labels"]
    assert "best of 4, min" in capsys.readouterr().out

"""Scorers of a search that are no models."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stepjax.config import SearchOptions
from stepjax.errors import UserError
from stepjax.search.scorers import SCORERS, Written, check_scorer
from stepjax.tasks.gsm8k import GSM8K
from stepjax.tasks.register_chain import RegisterChain


def a_run(task: Any) -> Any:
    """A run as these scorers see one; "tokens" of a response are the texts of its steps."""
    return SimpleNamespace(task=task, splitter=SimpleNamespace(texts=list))


@pytest.fixture
def gsm8k(tmp_path: Path) -> Any:
    row = {"question": "Two bags hold 24 each. How many?", "answer": "2*24=<<2*24=48>>48\n#### 48"}
    for name in ("train.jsonl", "test.jsonl"):
        (tmp_path / name).write_text(json.dumps(row) + "\n")
    return a_run(GSM8K(tmp_path))


def test_the_verifier_of_calculations_sees_no_answer(gsm8k: Any) -> None:
    problem = gsm8k.task.problems("test")[0]
    scorer = SCORERS["verifier"].make(gsm8k, SearchOptions(split="test"), "")
    assert not scorer.oracle and not scorer.constant and scorer.parameters == 0
    holds, fails, text = "2*24=<<2*24=48>>48", "2*24=<<2*24=46>>46", "Each bag holds 24."
    cases: dict[tuple[str, ...], float] = {
        (): 1.0,
        (text,): 1.0,
        (text, holds): 1.0,
        (text, holds, "#### 7"): 1.0,
        (fails,): 0.0,
        (holds, fails, text): 0.0,
        (fails, "#### 48"): 0.0,
    }
    written: list[Any] = [Written(problem, (), steps) for steps in cases]  # type: ignore[arg-type]
    assert scorer(written) == [(value, 0) for value in cases.values()]


def test_what_is_equal_for_all_says_nothing(gsm8k: Any) -> None:
    scorer = SCORERS["uniform"].make(gsm8k, SearchOptions(), "")
    written: list[Any] = [Written(gsm8k.task.problems("test")[0], (), steps) for steps in ((), ("a",))]  # type: ignore[arg-type]
    assert scorer.constant and len({value for value, _ in scorer(written)}) == 1


def test_the_verifier_of_derivations_is_an_oracle() -> None:
    assert SCORERS["verifier"].make(a_run(RegisterChain()), SearchOptions(split="test"), "").oracle


def test_a_task_without_a_verifier_of_steps_is_refused(gsm8k: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    options = SearchOptions(prm="verifier")
    check_scorer(gsm8k, options, stepwise=True)
    monkeypatch.setattr(GSM8K, "rate_steps", lambda self, problem, steps: None)
    with pytest.raises(UserError, match=r"config.search.prm=verifier: task gsm8k has no verifier of single steps"):
        check_scorer(gsm8k, options, stepwise=False)

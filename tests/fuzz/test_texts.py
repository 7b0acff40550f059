"""Model text into all that reads it: never an error of the program's, never past a bound in time."""

import contextlib
import json
import random
from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from fuzz.commands import assert_readable, elsewhere, refused
from fuzz.fuzzing import Fuzz
from fuzz.junk import FILE_TEXT, JSON, MODEL_TEXT, changed, damaged
from hypothesis import strategies as st
from rewards.prm_references import tokenizer_of
from step_cases import compiled, reference, segment

from stepjax.answers.arithmetic import ExpressionError, evaluate
from stepjax.answers.grading import final_answer, grade, grade_many, group_answers
from stepjax.config import RegisterChainConfig
from stepjax.data.readers.base import is_answer
from stepjax.data.schema import LabelledSolution, line
from stepjax.errors import UserError
from stepjax.judges.judge import Reply, judge
from stepjax.judges.protocol import NoCompletion, ServerFault, read_extra, read_reply, said, wants_other_limit
from stepjax.judges.rubric import Rubric
from stepjax.judges.verdicts import Malformed, read_verdicts
from stepjax.rewards.conventions import CONVENTIONS
from stepjax.rewards.conventions_layout import Layout
from stepjax.rewards.hosted import read_rewards
from stepjax.tasks.calculator import Calculator
from stepjax.tasks.gsm8k import check_calculations, trivial_calculations, worked_calculations
from stepjax.tasks.register_chain.task import RegisterChain

FUZZ = Fuzz(share=0.25)

LENGTH = 96
SPLITTERS = (("byte-level", "\n\n"), ("sentencepiece", ";"), ("byte-level", " ки"))


@FUZZ.holds(
    few=15,
    kind=st.sampled_from(SPLITTERS),
    texts=st.lists(MODEL_TEXT, min_size=1, max_size=3),
    seed=st.integers(0, 10**6),
    holes=st.floats(0, 1),
)
def steps_of_sampled_tokens(kind: tuple[str, str], texts: list[str], seed: int, holes: float) -> None:
    splitter, both, ids = compiled(*kind)
    rng = random.Random(seed)
    tokens, mask = np.zeros((4, LENGTH), np.int32), np.zeros((4, LENGTH), bool)
    for i, text in enumerate(texts):
        row = segment(text.encode("utf-8", "replace")[:LENGTH], ids, rng)
        tokens[i, : len(row)] = row
        mask[i, : len(row)] = [rng.random() >= holes / 4 for _ in row]
    tokens[3] = [rng.randrange(len(splitter.token_bytes)) for _ in range(LENGTH)]  # what no text spells
    mask[3] = True
    steps, count, opens, pending = both(jnp.array(tokens), jnp.array(mask))
    for i in range(4):
        pieces = [splitter.token_bytes[t] for t in tokens[i]]
        want = reference(pieces, mask[i].tolist(), kind[1].encode())
        assert steps.index[i].tolist() == want["index"] and steps.end[i].tolist() == want["end"]
        assert opens[i].tolist() == want["opens"] and pending[i].tolist() == want["pending"]
        assert int(count[i]) == sum(want["end"])
        index, end = splitter.split_host(tokens[i][mask[i]].tolist())
        assert index.tolist() == [x for x in want["index"] if x >= 0] and int(end.sum()) == sum(want["end"])
        parts = splitter.texts(tokens[i].tolist(), mask[i].tolist())
        assert all(part.strip(" \t\n\r\v\f") for part in parts)


@FUZZ.holds(
    few=60,
    response=MODEL_TEXT,
    answer=MODEL_TEXT,
    marks=st.tuples(st.sampled_from(["", "\\boxed{", "#### "]), st.sampled_from(["", "}"])),
)
def answers(response: str, answer: str, marks: tuple[str, str]) -> None:
    whole = response + marks[0] + answer[:60] + marks[1]
    assert grade(whole, answer) in (True, False)
    assert grade_many([whole, response], [answer, answer]) == [grade(whole, answer), grade(response, answer)]
    groups = group_answers([whole, response, whole])
    assert groups[0] == groups[2] and all(-1 <= g < 2 for g in groups)
    assert is_answer(response, answer) in (True, False, None)
    found = final_answer(whole)
    assert found is None or found.text in whole


@FUZZ.holds(few=60, text=MODEL_TEXT, inside=MODEL_TEXT)
def calculations(text: str, inside: str) -> None:
    step = f"{text}<<{inside}=5>>"
    assert check_calculations(step) in (-1, 0, 1) and check_calculations(text) in (-1, 0, 1)
    trivial, notes = trivial_calculations(step)
    assert 0 <= trivial <= notes
    assert all(
        x in (0.0, 1.0)
        for of_one in worked_calculations(["", ""], [step, text], [[step, text], [step]])
        for x in of_one
    )
    for expression in (text, inside, f"({inside})/3"):
        with contextlib.suppress(ExpressionError):
            assert isinstance(evaluate(expression), Fraction)
    reply = Calculator().reply(f"{text}<<{inside}=")
    note = inside.rpartition("<<")[2]  # a mark inside opens another note
    assert reply is None or (reply.endswith(">>") and len(reply) <= 14 and check_calculations(f"<<{note}={reply}") >= 0)


@FUZZ.holds(
    few=60,
    reply=MODEL_TEXT,
    around=st.sampled_from(["{}", "```json\n{}\n```", "so\n{}", '{{"verdicts": {}}}', "{}</think>\n{}"]),
    verdicts=JSON | st.lists(st.sampled_from(["good", "bad", "neutral"])),
    steps=st.integers(0, 4),
)
def replies_of_a_judge(reply: str, around: str, verdicts: Any, steps: int) -> None:
    for text in (
        reply,
        around.format(reply, json.dumps(verdicts)),
        around.format(json.dumps({"verdicts": verdicts}), reply),
    ):
        try:
            ratings = read_verdicts(text, steps)
            assert len(ratings) == steps and set(ratings) <= {-1, 0, 1}
        except Malformed as error:
            assert_readable(f"stepjax: {error}")


@FUZZ.holds(
    few=40,
    problem=FILE_TEXT,
    steps=st.lists(FILE_TEXT, max_size=3),
    replies=st.lists(MODEL_TEXT, min_size=3, max_size=3),
    answer=FILE_TEXT,
)
def a_judge_at_work(problem: str, steps: list[str], replies: list[str], answer: str) -> None:
    record = LabelledSolution(problem, tuple(steps), answer=answer, id="a")
    course = judge(record, RUBRIC, asks=3, model="m")
    asked: list[str] = []
    try:
        asked += next(course)
        for reply in replies:
            asked += course.send([Reply(reply, 5, 7)])
        raise AssertionError("it asks a fourth time")
    except StopIteration as end:
        labelled = end.value
    for question in asked:
        texts = [problem, answer, *steps]
        begins = [line for line in question.splitlines() if line.startswith("[") and " begins " in line]
        assert all(text.strip() in question for text in texts)
        assert len([b for b in begins if not any(b in text for text in texts)]) >= 1
    written = line(labelled)
    assert written.count("\n") == 1 and LabelledSolution.from_json(json.loads(written)) == labelled


RUBRIC = Rubric("detailed")
CHAT = {
    "choices": [{"message": {"content": '{"verdicts": ["good"]}'}, "finish_reason": "stop"}],
    "error": {"message": "m", "code": 429},
    "usage": {"prompt_tokens": 3, "completion_tokens": 4},
}


@FUZZ.holds(few=60, body=changed(CHAT).map(lambda x: json.dumps(x).encode()) | damaged(json.dumps(CHAT).encode()))
def the_body_of_a_server(body: bytes) -> None:
    assert isinstance(said(body), str) and wants_other_limit(body) in (True, False)
    try:
        reply = read_reply(body, 512)
        assert isinstance(reply.text, str) and reply.read >= 0 and reply.written >= 0
    except NoCompletion as error:
        assert_readable(f"stepjax: {error}")
    except ServerFault as error:
        assert isinstance(error.status, int)


@FUZZ.holds(
    few=30, text=damaged(b'{"chat_template_kwargs": {"enable_thinking": false}}') | JSON.map(json.dumps).map(str.encode)
)
def fields_that_are_added_to_a_request(text: bytes) -> None:
    try:
        json.dumps(read_extra(text.decode("utf-8", "replace"), "config.label.judge.extra_body"))
    except UserError as error:
        assert_readable(refused(error))


LAYOUTS: dict[str, Layout] = {}


@FUZZ.holds(few=40, name=st.sampled_from(sorted(CONVENTIONS)), problem=FILE_TEXT, steps=st.lists(FILE_TEXT, max_size=4))
def inputs_of_a_public_reward_model(name: str, problem: str, steps: list[str]) -> None:
    layout = LAYOUTS.setdefault(name, Layout(CONVENTIONS[name], tokenizer_of(name)))
    special = set(layout.tokenizer.all_special_ids)
    plain, found = layout(["p", problem], [["s"] * len(steps), steps])
    if found is not None:
        assert len(found.places) == len(steps) and found.places[-1] < len(found.tokens)
        assert (np.diff(found.places) > 0).all()
    if found is not None and plain is not None:
        # A text adds no token that means something to the model.
        counts = [
            [np.count_nonzero(r.tokens == s) for s in special - {layout.tokenizer.unk_token_id}] for r in (plain, found)
        ]
        assert counts[0] == counts[1]


@FUZZ.holds(few=30, texts=st.lists(MODEL_TEXT, max_size=4), response=MODEL_TEXT, number=st.integers(0, 50))
def responses_to_register_chain(texts: list[str], response: str, number: int) -> None:
    problem = CHAIN.problems("train")[number]
    assert CHAIN.grade(problem, response) in (True, False)
    assert [r.rating in (-1, 0, 1) for r in CHAIN.rate_steps(problem, texts)] == [True] * len(texts)
    assert len(CHAIN.group_answers([response, *texts])) == len(texts) + 1
    CHAIN.break_and_fix(problem, texts)


CHAIN = RegisterChain(RegisterChainConfig())


@FUZZ.holds(
    few=60,
    found=st.lists(JSON | st.lists(st.floats()))
    | JSON
    | st.sampled_from([np.zeros((2, 2)), np.array(None), iter([1, 2]), {1, 2}, object(), b"ab"]),
    steps=st.lists(st.integers(0, 3), max_size=3),
)
def what_a_users_function_returns(found: Any, steps: list[int]) -> None:
    try:
        rewards = read_rewards(found, steps, "config.ppo.streams.a.function: m:f")
        assert len(rewards) == len(steps) and all(np.isfinite(r).all() for r in rewards)
    except UserError as error:
        assert_readable(refused(error))


@FUZZ.holds(
    few=20,
    texts=st.lists(MODEL_TEXT, max_size=3),
    numbers=st.lists(st.floats() | st.integers() | st.just(np.float32("nan")), max_size=3),
)
def lines_that_a_run_logs(texts: list[str], numbers: list[Any]) -> None:
    from stepjax.report.read import read_run
    from stepjax.workdir.json_lines import JsonLines

    with elsewhere() as folder:
        lines = JsonLines(folder / "samples.jsonl")
        rows = [{"step": i, "stage": "ppo", "response": text, "n": numbers, text: i} for i, text in enumerate(texts)]
        lines.append(rows)
        lines.close()
        found = read_run(folder)
        assert not found.notes and len(found.samples) == len(rows)


@pytest.mark.parametrize("name", FUZZ.names)
def test_a_few(name: str) -> None:
    FUZZ.few(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", FUZZ.names)
def test_for_minutes(name: str) -> None:
    FUZZ.minutes(name)

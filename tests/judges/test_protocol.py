"""Bodies of chat completions as servers write them: the text, and why there may be none."""

import json

import pytest
from judges.chat_server import chat

from stepjax.console.terminal import one_line
from stepjax.data.schema import LabelledSolution
from stepjax.judges.judge import judge
from stepjax.judges.protocol import NoCompletion, read_reply
from stepjax.judges.rubric import Rubric

VERDICTS = '{"verdicts": ["good", "bad"]}'


def reply(content, **more):
    return read_reply(json.dumps(chat(content, **more)["body"]).encode(), 512)


@pytest.mark.parametrize(
    "content, text",
    [
        (VERDICTS, VERDICTS),
        (None, ""),
        ([], ""),
        ([{"type": "text", "text": VERDICTS}], VERDICTS),
        ([{"type": "text", "text": VERDICTS[:9]}, {"type": "text", "text": VERDICTS[9:]}], VERDICTS),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "x"}], "x"),
        ([{"type": "reasoning", "text": '{"verdicts": ["bad", "bad"]}'}, {"type": "output_text", "text": "x"}], "x"),
        ([{"text": "x"}, "y", {"type": "image_url"}, None, 3, {"type": "text", "text": None}], "xy"),
        (7, ""),
        ({"text": "x"}, ""),
    ],
)
def test_the_text_of_a_message(content, text):
    assert reply(content).text == text


def test_thoughts_in_a_field_of_their_own_are_not_the_reply():
    for name in ("reasoning_content", "reasoning"):
        found = reply(None, **{name: VERDICTS})
        assert found.text == "" and found.fault == "the reply is thoughts without an answer"
        assert reply(VERDICTS, **{name: "hm"}).fault == ""


@pytest.mark.parametrize(
    "content, more, fault",
    [
        ("Step 1", {"finish": "length"}, "(finish_reason=length, config.label.judge.answer_tokens=512)"),
        (None, {"finish": "length", "reasoning_content": "hm"}, "answer_tokens=512) while the judge was thinking"),
        (None, {"finish": "MAX_TOKENS"}, "cut off"),
        (None, {"refusal": "I cannot help with that."}, "the judge refuses to answer"),
        ("", {"finish": "content_filter"}, "content filter"),
        (None, {"finish": "tool_calls", "tool_calls": [{"id": "1"}]}, "calls a tool"),
        ("no", {}, ""),
    ],
)
def test_why_a_text_holds_no_verdicts(content, more, fault):
    found = reply(content, **more)
    assert fault in found.fault and bool(fault) == bool(found.fault)
    assert found.cut == (more.get("finish") in ("length", "MAX_TOKENS"))
    seen = []
    course = judge(
        LabelledSolution("p", ("a", "b"), id="x"), Rubric("coarse"), asks=2, model="m", on_malformed=seen.append
    )
    next(course)
    (again,) = course.send([found])
    assert (found.fault or "the reply is no JSON object") in again and seen == [found]
    with pytest.raises(StopIteration) as end:
        course.send([found])
    record = end.value.value
    assert record.labelled == 0 and fault in record.extra["label"]["unlabelled"] and len(seen) == 2


def test_verdicts_in_a_reply_that_was_cut_off_after_them_count():
    course = judge(LabelledSolution("p", ("a", "b"), id="x"), Rubric("coarse"), asks=1, model="m")
    next(course)
    with pytest.raises(StopIteration) as end:
        course.send([reply(VERDICTS + "\nStep 1 is", finish="length")])
    assert end.value.value.ratings == (1, -1)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"3", b'{"choices": null}', b'{"choices": [3]}', b'{"choices": [{"message": "x"}]}', b"\xff"]
)
def test_what_is_no_completion(body):
    with pytest.raises(NoCompletion):
        read_reply(body, 512)


def test_untrusted_text_in_one_line():
    assert one_line("a\x1b[31m\n\n\tb\u202ec", 20) == "a [31m b c"
    assert one_line("word " * 99, 20) == "word word word word…" and len(one_line("x" * 10**6, 20)) == 20
    assert one_line(" " * 10**6 + "x", 20) == "…"

"""The client of a chat-completions server: errors, delays, broken and hostile replies, and a key that stays secret."""

import threading
import time
from email.utils import formatdate

import pytest
from judges.chat_server import chat, chat_server

from stepjax.errors import UserError
from stepjax.judges.endpoint import MOST_BYTES, ChatClient, Endpoint, Unanswered

KEY = "sk-secret-123"


def client(server, **changes) -> ChatClient:
    fields = {"url": server.url, "model": "m", "key": "JUDGE_KEY", "timeout": 5.0, "backoff": 0.02, "retries": 3}
    return ChatClient(Endpoint(**(fields | changes)))


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", KEY)


def test_a_question_and_its_reply():
    with chat_server(lambda n, q: chat("yes", 12, 3)) as server:
        reply = client(server, temperature=0.5, answer_tokens=77).ask("right?")
    assert (reply.text, reply.read, reply.written) == ("yes", 12, 3)
    assert server.requests == [
        {"model": "m", "messages": [{"role": "user", "content": "right?"}], "temperature": 0.5, "max_tokens": 77}
    ]
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"


FAULTS = {
    "busy": {"status": 429, "body": {"error": {"message": "slow down"}}},
    "broken": {"status": 500, "body": b"<html>oops</html>"},
    "gone": {"status": 503},
    "late": {**chat("too late"), "delay": 1.5},
    "cut off": {**chat("a reply that ends too soon"), "cut": 40},
    "dripping": {**chat("x"), "drip": 0.1},
    "no JSON": {"body": b"hello"},
    "script": {"body": b"<script>alert(1)</script>"},
    "nested": {"body": b"[" * 100_000},
    "other protocol": {"body": {"text": "yes"}},
    "no choice": {"body": {"choices": []}},
    "huge": {"body": b"[" + b"0," * MOST_BYTES + b"0]"},
    "a list": {"body": [1, 2]},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_after_a_fault_it_asks_again_later(fault):
    with chat_server(lambda n, q: FAULTS[fault] if n < 2 else chat("yes")) as server:
        reply = client(server, timeout=0.5).ask("right?")
    assert reply.text == "yes" and len(server.requests) == 3
    assert server.requests[0] == server.requests[2]
    waits = [b - a for a, b in zip(server.times, server.times[1:], strict=False)]
    assert waits[0] >= 0.02 and waits[1] >= 0.04  # each twice the one before, the request's own time beside it
    assert max(waits) < 5.0


def test_backoff_doubles():
    with chat_server(lambda n, q: {"status": 500}) as server, pytest.raises(Unanswered, match="status 500"):
        client(server, backoff=0.15, retries=3).ask("?")
    waits = [b - a for a, b in zip(server.times, server.times[1:], strict=False)]
    assert len(waits) == 3 and all(w >= 0.15 * 2**i for i, w in enumerate(waits))


def test_the_server_says_how_long_to_wait():
    date = formatdate(time.time() + 2, usegmt=True)
    after = ["0.3", date, "nonsense", "-5", "nan"]
    with chat_server(
        lambda n, q: {"status": 429, "headers": {"Retry-After": after[n]}} if n < 5 else chat("yes")
    ) as server:
        assert client(server, backoff=0.01, retries=5).ask("?").text == "yes"
    waits = [b - a for a, b in zip(server.times, server.times[1:], strict=False)]
    assert waits[0] >= 0.3 and waits[1] >= 0.5 and max(waits[2:]) < 3.0  # a date has whole seconds


def test_hopeless_answers_end_at_once_and_never_show_the_key():
    for status, hint in (
        (401, "JUDGE_KEY"),
        (403, "JUDGE_KEY"),
        (404, "nothing found at this address"),
        (302, "the server redirects"),
    ):
        said = {"error": {"message": f"bad key {KEY}\x1b[31m\n{'long ' * 99}"}}
        what = {"status": status, "body": said, "headers": {"Location": "http://127.0.0.1:1/v1"}}
        with chat_server(lambda n, q, what=what: what) as server, pytest.raises(UserError, match=hint) as error:
            client(server).ask("?")
        assert KEY not in str(error.value) and "\x1b" not in str(error.value) and len(str(error.value)) < 350
        assert len(server.requests) == 1


def test_a_refused_question_is_no_error_of_the_server():
    body = {"error": {"message": "maximum context length"}}
    with chat_server(lambda n, q: {"status": 400, "body": body}) as server:
        assert client(server).ask("?").refused == "status 400: maximum context length"


@pytest.mark.parametrize("usage", [None, 5, {"prompt_tokens": "9", "completion_tokens": -1}, {"prompt_tokens": True}])
def test_nonsense_about_tokens_counts_as_nothing(usage):
    what = chat("yes")
    what["body"]["usage"] = usage
    with chat_server(lambda n, q: what) as server:
        reply = client(server).ask("?")
    assert (reply.text, reply.read, reply.written) == ("yes", 0, 0)


def test_a_reply_without_text_is_empty():
    with chat_server(lambda n, q: chat(None)) as server:
        assert client(server).ask("?").text == ""


NEWER = {
    "message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' "
    "instead.",
    "type": "invalid_request_error",
    "param": "max_tokens",
    "code": "unsupported_parameter",
}


def test_a_server_that_calls_the_limit_otherwise():
    def newer(number, question):
        return {"status": 400, "body": {"error": NEWER}} if "max_tokens" in server.requests[number] else chat("yes")

    with chat_server(newer) as server:
        one = client(server, answer_tokens=77, retries=0)
        assert one.ask("a").text == one.ask("b").text == "yes"
    fields = [{name: value for name, value in body.items() if "tokens" in name} for body in server.requests]
    assert fields == [{"max_tokens": 77}, {"max_completion_tokens": 77}, {"max_completion_tokens": 77}]
    with chat_server(lambda n, q: {"status": 400, "body": {"error": NEWER}}) as server:
        assert "Use 'max_completion_tokens'" in client(server).ask("?").refused and len(server.requests) == 2
        # A user who names the field decides.
        assert "Unsupported" in client(server, extra_body='{"max_tokens": 9}').ask("?").refused
        assert len(server.requests) == 3 and server.requests[2]["max_tokens"] == 9


def test_an_extra_body_is_merged_into_the_request():
    extra = '{"chat_template_kwargs": {"enable_thinking": false}, "temperature": null, "max_tokens": 9, "stream": 0}'
    with chat_server(lambda n, q: chat("yes")) as server:
        assert client(server, extra_body=extra).ask("?").text == "yes"
    assert server.requests == [
        {
            "model": "m",
            "messages": [{"role": "user", "content": "?"}],
            "max_tokens": 9,
            "chat_template_kwargs": {"enable_thinking": False},
            "stream": 0,
        }
    ]
    for text, why in (
        ("enable_thinking=false", "not JSON"),
        ('{"a": NaN}', "not JSON"),
        ("[1]", "not a JSON object"),
        ('"text"', "not a JSON object"),
        ('{"messages": []}', "may not hold 'messages'"),
        ('{"model": "x"}', r"config\.label\.judge\.model"),
        ('{"stream": true}', "may not hold 'stream'"),
    ):
        with pytest.raises(UserError, match=why) as error:
            ChatClient(Endpoint("http://host/v1", "m", extra_body=text))
        assert str(error.value).startswith("config.label.judge.extra_body") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "body, wanted",
    [
        ({"error": {"message": "slow down", "code": 429}}, "status 429: slow down"),
        ({"error": {"message": "no GPU", "code": "internal_error"}}, "status 500: no GPU"),
        ({"object": "error", "message": "engine died", "code": 503}, "status 503: engine died"),
        ({"error": "model is loading"}, "status 500: model is loading"),
        ({"choices": [{"message": {}, "error": {"code": 502, "message": "provider"}}]}, "status 502"),
    ],
)
def test_an_error_with_status_200_is_an_error(body, wanted):
    with chat_server(lambda n, q: {"body": body} if n < 2 else chat("yes")) as server:
        assert client(server).ask("?").text == "yes" and len(server.requests) == 3
    with chat_server(lambda n, q: {"body": body}) as server, pytest.raises(Unanswered, match=wanted):
        client(server, retries=0).ask("?")


def test_errors_with_status_200_are_taken_by_the_status_that_they_state():
    for code, status in ((401, "the key is refused"), (404, "nothing found")):
        body = {"error": {"message": "no", "code": code}}
        with chat_server(lambda n, q, b=body: {"body": b}) as server, pytest.raises(UserError, match=status):
            client(server).ask("?")
    with chat_server(lambda n, q: {"body": {"error": {"message": "too long", "code": "400"}}}) as server:
        assert client(server).ask("?").refused == "status 400: too long"


@pytest.mark.parametrize("body", [{"message": "bad field"}, {"detail": "bad field"}, {"error": "bad field"}])
def test_error_messages_of_several_servers_are_shown(body):
    with chat_server(lambda n, q: {"status": 400, "body": body}) as server:
        assert client(server).ask("?").refused == "status 400: bad field"


def test_a_server_that_streams_is_told_apart():
    stream = b'data: {"choices": [{"delta": {"content": "a"}}]}\n\ndata: [DONE]\n\n'
    with chat_server(lambda n, q: {"body": stream}) as server, pytest.raises(Unanswered, match=r'{"stream": false}'):
        client(server, retries=0).ask("?")


def test_no_server_at_all():
    with chat_server(lambda n, q: chat("yes")) as server:
        url = server.url
    with pytest.raises(Unanswered, match="refused"):
        ChatClient(Endpoint(url, "m", retries=1, backoff=0.01)).ask("?")


def test_stop_ends_what_is_under_way():
    with chat_server(lambda n, q: {**chat("yes"), "delay": 30}) as server:
        one = client(server, timeout=60.0)
        timer = threading.Timer(0.3, one.stop)
        timer.start()
        start = time.monotonic()
        with pytest.raises(Unanswered):
            one.ask("?")
        assert time.monotonic() - start < 10


def test_addresses_that_make_no_sense():
    for url in ("", "localhost:8000", "ftp://host/v1", "http://", "http://host:x/v1", "http://host/v1?a=b"):
        with pytest.raises(UserError, match="is not an address"):
            ChatClient(Endpoint(url, "m"))
    with pytest.raises(UserError, match="password"):
        ChatClient(Endpoint("http://me:word@host/v1", "m"))
    with pytest.raises(UserError, match=r"judge\.model"):
        ChatClient(Endpoint("http://host/v1", ""))

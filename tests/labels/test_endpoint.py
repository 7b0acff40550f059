"""The client of a chat-completions server: errors, delays, broken and hostile replies, and a key that stays secret."""

import threading
import time
from email.utils import formatdate

import pytest
from labels.chat_server import chat, chat_server

from stepjax.errors import UserError
from stepjax.labels.endpoint import MOST_BYTES, ChatClient, Endpoint, Unanswered

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

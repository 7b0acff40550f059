"""A chat-completions server in a thread, which can also be busy, broken, slow, cut off and hostile."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behaviour = Callable[[int, str], dict[str, Any]]
"""`(number of the request, question) -> what is sent`: status, headers, body (bytes or an object), delay, drip, cut."""


class ChatServer:
    """Attributes:
    requests: every body that came, in order; `headers` the same.
    most: the most requests that were answered at the same time.
    """

    def __init__(self, behaviour: Behaviour):
        self.behaviour = behaviour
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.most = self._now = 0
        self.closing = threading.Event()
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer._answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self._lock:
            number = len(self.requests)
            self.requests.append(body)
            self.headers.append(dict(handler.headers))
            self.times.append(time.monotonic())
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            assert handler.path == "/v1/chat/completions"
            self._send(handler, self.behaviour(number, body["messages"][-1]["content"]))
        except OSError:
            pass  # the client has hung up
        finally:
            with self._lock:
                self._now -= 1

    def _send(self, handler: BaseHTTPRequestHandler, what: dict[str, Any]) -> None:
        self.closing.wait(what.get("delay", 0.0))
        body = what.get("body", b"")
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.send_response(what.get("status", 200))
        for name, value in what.get("headers", {}).items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        data = data[: what.get("cut", len(data))]
        if "drip" in what:
            for byte in data:
                handler.wfile.write(bytes([byte]))
                handler.wfile.flush()
                if self.closing.wait(what["drip"]):
                    return
        else:
            handler.wfile.write(data)


@contextmanager
def chat_server(behaviour: Behaviour) -> Iterator[ChatServer]:
    server = ChatServer(behaviour)
    try:
        yield server
    finally:
        server.close()


def chat(text: Any, read: int = 100, written: int = 10, *, finish: str = "stop", **more: Any) -> dict[str, Any]:
    """A whole answer of the protocol; `more`: further fields of its message."""
    usage = {"prompt_tokens": read, "completion_tokens": written}
    message = {"role": "assistant", "content": text, **more}
    return {"body": {"choices": [{"message": message, "finish_reason": finish}], "usage": usage}}


def steps_in(question: str) -> int:
    return int(re.search(r"exactly (\d+) verdicts", question)[1])


def verdicts(question: str) -> list[str]:
    """What this judge thinks: a step is bad where its text holds a 9, neutral where it holds a 0."""
    steps = re.findall(r"\[step \d+ begins \w+\]\n(.*?)\n\[step", question, re.DOTALL)
    return ["bad" if "9" in step else "neutral" if "0" in step else "good" for step in steps]


def honest(number: int, question: str) -> dict[str, Any]:
    return chat(json.dumps({"verdicts": verdicts(question)}))

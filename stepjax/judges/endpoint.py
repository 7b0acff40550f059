"""A client of the chat-completions protocol, for servers that may be slow, busy, broken or hostile.

Standard library only. Every question has one deadline over connecting, waiting and reading, replies are bounded in
size, redirects are not followed (the key would go with them), and no message shows the key.
"""

import contextlib
import email.utils
import http.client
import os
import random
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from stepjax.console.terminal import one_line
from stepjax.errors import UserError
from stepjax.judges.judge import Reply
from stepjax.judges.protocol import (
    LIMITS,
    NoCompletion,
    ServerFault,
    read_extra,
    read_reply,
    request,
    said,
    wants_other_limit,
)

MOST_BYTES = 2 * 1024 * 1024
"""Bytes of a reply; a larger one is not read further."""

LONGEST_WAIT = 60.0
"""Longest wait between two attempts, in seconds."""

LONGEST_RETRY_AFTER = 600.0
"""Longest wait that a server may ask for, in seconds."""

_BUSY = {408, 409, 425, 429}
_REFUSED = {400, 422}
_HOPELESS = {401: "the key is refused", 403: "access is refused", 404: "nothing found at this address"}


class Unanswered(Exception):
    """All attempts of a question failed by an error of the server or the network; a later attempt may succeed."""


class _TryAgain(Exception):
    def __init__(self, why: str, after: float = 0.0):
        super().__init__(why)
        self.after = after


@dataclass(frozen=True)
class Endpoint:
    """Address, key and patience of a client.

    Attributes:
      url: up to and with /v1.
      key: the name of the environment variable with the key; where that is unset, none is sent.
      timeout: seconds of one attempt.
      retries: attempts after the first.
      backoff: seconds before the second attempt; each later wait is twice as long, with up to a quarter more by chance.
      extra_body: a JSON object that is merged into every request, as text.
      where: the section of the options that these are from, for messages.
    """

    url: str
    model: str
    key: str = "OPENAI_API_KEY"
    temperature: float = 0.0
    answer_tokens: int = 512
    timeout: float = 120.0
    retries: int = 6
    backoff: float = 1.0
    extra_body: str = ""
    where: str = "config.label.judge"


class ChatClient:
    """Client of one endpoint; `ask` may be called from many threads."""

    def __init__(self, endpoint: Endpoint):
        """UserError where the address or the model is missing or malformed, or the extra body is not an object."""
        self.endpoint = endpoint
        self._address = _address(endpoint.url, endpoint.where)
        if not endpoint.model:
            raise UserError(f"{endpoint.where}.model: name the server's model")
        self._key = os.environ.get(endpoint.key, "") if endpoint.key else ""
        if not self._key.isascii() or not self._key.isprintable():
            raise UserError(f"environment variable {endpoint.key}: it holds characters that are not allowed in a key")
        self._extra = read_extra(endpoint.extra_body, f"{endpoint.where}.extra_body")
        self._limit = LIMITS[0]
        self._context = ssl.create_default_context() if self._address.scheme == "https" else None
        self._stopped = threading.Event()
        self._open: set[socket.socket] = set()

    def stop(self) -> None:
        """Ends every call at once, whether it waits for a reply or for its next attempt."""
        self._stopped.set()
        for sock in tuple(self._open):
            _shut(sock)

    def ask(self, question: str) -> Reply:
        """The reply to a question; with `refused` where the server rejects it.

        Raises:
          Unanswered: every attempt failed.
          UserError: no question can succeed (a wrong key or address).
        """
        for attempt in range(self.endpoint.retries + 1):
            try:
                return self._once(question)
            except _TryAgain as failure:
                why = str(failure)
                if attempt == self.endpoint.retries:
                    break
                wait = min(self.endpoint.backoff * 2.0**attempt, LONGEST_WAIT) * random.uniform(1.0, 1.25)
                if self._stopped.wait(max(wait, min(failure.after, LONGEST_RETRY_AFTER))):
                    break
        raise Unanswered(why)

    def _once(self, question: str) -> Reply:
        limit = self._limit
        status, headers, found = self._post(self._body(question, limit))
        if status == 200:
            try:
                return read_reply(found, self.endpoint.answer_tokens, self.endpoint.where)
            except ServerFault as fault:
                status = fault.status
            except NoCompletion as fault:
                raise _TryAgain(str(fault)) from None
        if status in _REFUSED and limit == LIMITS[0] and limit not in self._extra and wants_other_limit(found):
            self._limit = LIMITS[1]
            return self._once(question)
        text = self.shown(said(found), 160)
        why = f"status {status}" + (f": {text}" if text else "")
        if status in _BUSY or status >= 500:
            raise _TryAgain(why, _retry_after(headers))
        if 300 <= status < 400:
            raise UserError(
                f"{self.endpoint.url}: the server redirects (status {status}); give the address it redirects to"
            )
        if status in _HOPELESS:
            hint = f"; the key is read from {self.endpoint.key}" if status != 404 else ""
            raise UserError(f"{self.endpoint.url}: {_HOPELESS[status]} ({why}){hint}")
        return Reply("", refused=why)

    def _body(self, question: str, limit: str) -> bytes:
        fields = {
            "model": self.endpoint.model,
            "messages": [{"role": "user", "content": question}],
            "temperature": self.endpoint.temperature,
            limit: self.endpoint.answer_tokens,
        }
        return request(fields, self._extra)

    def shown(self, text: str, most: int) -> str:
        """A server's text in one line for a terminal, without the key."""
        return one_line(text.replace(self._key, "…") if self._key else text, most)

    def _post(self, data: bytes) -> tuple[int, Any, bytes]:
        address, limit = self._address, self.endpoint.timeout
        kind: Any = http.client.HTTPConnection
        more: dict[str, Any] = {}
        if self._context is not None:
            kind, more = http.client.HTTPSConnection, {"context": self._context}
        connection = kind(address.hostname, address.port, timeout=limit, **more)
        late, sockets = threading.Event(), list[socket.socket]()

        def give_up() -> None:
            # A socket's own timeout starts anew with every byte: a server that sends byte by byte would block forever.
            late.set()
            for sock in sockets:
                _shut(sock)

        timer = threading.Timer(limit, give_up)
        timer.daemon = True
        timer.start()
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "stepjax"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        try:
            connection.connect()
            # The connection forgets its socket once the headers are there.
            sockets.append(connection.sock)
            self._open.add(connection.sock)
            if late.is_set() or self._stopped.is_set():
                raise TimeoutError
            connection.request("POST", f"{address.path.rstrip('/')}/chat/completions", body=data, headers=headers)
            response = connection.getresponse()
            found = response.read(MOST_BYTES + 1)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if late.is_set() or isinstance(error, TimeoutError):
                raise _TryAgain(f"no reply in {limit:g} s") from None
            raise _TryAgain(getattr(error, "strerror", None) or type(error).__name__) from None
        finally:
            timer.cancel()
            self._open.difference_update(sockets)
            connection.close()
        if late.is_set():
            raise _TryAgain(f"no whole reply in {limit:g} s")
        if len(found) > MOST_BYTES:
            raise _TryAgain(f"the reply is larger than {MOST_BYTES} bytes")
        return response.status, response.headers, found


def _address(url: str, where: str) -> SplitResult:
    try:
        found = urlsplit(url)
        found.port  # noqa: B018 - raises for a port that is no number
    except ValueError:
        found = urlsplit("")
    if found.scheme not in ("http", "https") or not found.hostname or found.query or found.fragment:
        raise UserError(f"{where}.url: {url!r} is not an address such as http://localhost:8000/v1")
    if found.username or found.password:
        raise UserError(f"{where}.url: it holds a password; give the key by {where}.key")
    return found


def _shut(sock: socket.socket) -> None:
    """Ends a connection from another thread, which wakes up if it waits for bytes."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # below TLS, whose own state is not touched


def _retry_after(headers: Any) -> float:
    """Seconds that the header asks for, given as a number or as a date; 0 where it is absent or malformed."""
    given = (headers.get("Retry-After") or "").strip()
    try:
        seconds = float(given)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(given).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return 0.0
    return seconds if 0.0 < seconds < float("inf") else 0.0

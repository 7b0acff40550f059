"""The chat-completions protocol as servers speak it: fields of a request, and a body as the judge's reply.

OpenAI, vLLM, llama.cpp, Ollama, Mistral and gateways in front of them agree on little more than the names. A text may
be null or a list of parts, thoughts may have a field of their own, an error may come with status 200.
"""

import json
import re
from typing import Any

from stepjax.errors import UserError
from stepjax.judges.judge import Reply

LIMITS = ("max_tokens", "max_completion_tokens")
"""Names of the longest reply: the one that all servers know, and the only one that OpenAI's newer models take."""

_OWN = {"messages": "the judge's question", "model": "{section}.model"}
_CUT = ("length", "max_tokens")  # finish reasons, in small letters
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")


class NoCompletion(Exception):
    """A body that does not follow the protocol."""


class ServerFault(Exception):
    """An error in a body of status 200; `status`: the one that it states, else 500."""

    def __init__(self, status: int):
        super().__init__(status)
        self.status = status


def read_extra(text: str, where: str) -> dict[str, Any]:
    """The option `extra_body`: fields that are added to a request or replace its own; null takes one away.

    UserError where it is not a JSON object, or would change what the judge is asked.
    """
    example = '{"chat_template_kwargs": {"enable_thinking": false}}'
    if not text.strip():
        return {}
    try:
        found = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}={text[:80]!r}: not JSON ({error}); give an object such as {example}") from None
    if not isinstance(found, dict):
        raise UserError(f"{where}={text[:80]!r}: not a JSON object; give one such as {example}")
    section = where.rpartition(".")[0]
    for name, instead in _OWN.items():
        if name in found:
            raise UserError(f"{where}: it may not hold {name!r}, which comes from {instead.format(section=section)}")
    if found.get("stream"):
        raise UserError(f"{where}: it may not hold 'stream', the reply is read as a whole")
    return found


def request(fields: dict[str, Any], extra: dict[str, Any]) -> bytes:
    """The body of a request: `fields`, with `extra` merged into them."""
    return json.dumps({name: value for name, value in {**fields, **extra}.items() if value is not None}).encode()


def wants_other_limit(found: bytes) -> bool:
    """Whether a refusal says that `max_tokens` must be called `max_completion_tokens`."""
    return b"max_tokens" in found and (LIMITS[1].encode() in found or b"unsupported_parameter" in found)


def said(found: bytes) -> str:
    """The error message of a body, as it stands; "" where there is none."""
    try:
        body = json.loads(found[:65536])
    except (ValueError, RecursionError):
        return ""
    for name in ("error", "message", "detail"):
        if isinstance(body, dict) and name in body:
            inner = body[name]
            return str(inner.get("message", inner) if isinstance(inner, dict) else inner)
    return ""


def read_reply(found: bytes, answer_tokens: int, where: str = "config.label.judge") -> Reply:
    """The first choice of a body, with the reason why its text may be none (`Reply.fault`).

    `where`: the section of the options, for messages.

    Raises:
      ServerFault: the body is an error.
      NoCompletion: it is not a chat completion.
    """
    try:
        body = json.loads(found)
    except (ValueError, RecursionError):
        if found.lstrip().startswith(b"data:"):
            why = f'the server streams its replies; set {where}.extra_body={{"stream": false}}'
            raise NoCompletion(why) from None
        raise NoCompletion("the reply is truncated or not a chat completion") from None
    if isinstance(body, dict) and not body.get("choices") and (body.get("error") or body.get("object") == "error"):
        raise ServerFault(_status(body.get("error") or body))
    try:
        choice = body["choices"][0]
        message = choice["message"]
        reason = str(choice.get("finish_reason") or "").lower()
        fault = choice.get("error")
        text = _text(message.get("content"))
        usage = body.get("usage")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise NoCompletion("the reply is truncated or not a chat completion") from None
    if fault or reason == "error":
        raise ServerFault(_status(fault))
    usage = usage if isinstance(usage, dict) else {}
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
    read, written = (n if isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 10**9 else 0 for n in counts)
    return Reply(text, read, written, fault=_fault(message, text, reason, answer_tokens, where), cut=reason in _CUT)


def cut_off(answer_tokens: int, where: str = "config.label.judge") -> str:
    """The fault of a reply that its limit ended."""
    return f"the reply was cut off (finish_reason=length, {where}.answer_tokens={answer_tokens})"


def _fault(message: dict[str, Any], text: str, reason: str, answer_tokens: int, where: str) -> str:
    thought = any(message.get(name) for name in _THOUGHTS)
    if reason in _CUT:
        return cut_off(answer_tokens, where) + (" while the judge was thinking" if thought and not text.strip() else "")
    if reason == "content_filter":
        return "the server's content filter ended the reply"
    if message.get("refusal") and not text.strip():
        return "the judge refuses to answer"
    if message.get("tool_calls") or message.get("function_call"):
        return "the reply calls a tool"
    return "the reply is thoughts without an answer" if thought and not text.strip() else ""


def _text(content: Any) -> str:
    """A message's content: a text, nothing, or a list of parts, of which those of text count."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [part if isinstance(part, str) else _part(part) for part in content]
    return "".join(parts)


def _part(part: Any) -> str:
    if not isinstance(part, dict) or part.get("type", "text") not in ("text", "output_text"):
        return ""
    text = part.get("text")
    return text if isinstance(text, str) else ""


def _status(error: Any) -> int:
    """The HTTP status that an error states, as a number or in digits; else 500."""
    for name in ("code", "status"):
        given = str(error.get(name)) if isinstance(error, dict) else ""
        if re.fullmatch("[45][0-9][0-9]", given):
            return int(given)
    return 500


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")

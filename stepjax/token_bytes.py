"""The byte string of every token: the bytes that it adds to the decoded text, by a Hugging Face tokenizer's decoder.

A tokenizer decodes a list of ids to text, and text does not show where one token stops inside of a character. Bytes do:
the response is the concatenation of its tokens' bytes, whatever the vocabulary.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from tokenizers import Tokenizer, models

from stepjax.errors import UserError

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def _byte_of_character() -> dict[str, int]:
    """GPT-2's table inverted: printable Latin-1 stands for itself, the 68 other bytes for U+0100 and up, in order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


_BYTE_OF_CHARACTER = _byte_of_character()


def backend_of(tokenizer: Any) -> Tokenizer:
    """The `tokenizers.Tokenizer` of a transformers tokenizer (or itself). UserError where there is none."""
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not isinstance(backend, Tokenizer):
        raise UserError(
            f"tokenizer {type(tokenizer).__name__}: only fast tokenizers work; give one with tokenizer.json"
        )
    return backend


def special_contents(tokenizer: Any) -> frozenset[str]:
    """The contents of the special tokens, those that decoding skips."""
    return frozenset(t.content for t in backend_of(tokenizer).get_added_tokens_decoder().values() if t.special)


def _decoders(backend: Tokenizer) -> list[dict[str, Any]]:
    """The decoders in the order in which they run, nested sequences flattened; empty where the tokenizer has none."""
    carrier = Tokenizer(models.BPE())  # an empty tokenizer, so that the vocabulary is not written out as JSON
    carrier.decoder = backend.decoder
    todo, flat = [json.loads(carrier.to_str())["decoder"]], []
    while todo:
        decoder = todo.pop(0)
        if decoder and decoder["type"] == "Sequence":
            todo = decoder["decoders"] + todo
        elif decoder:
            flat.append(decoder)
    return flat


def _byte_level(token: str) -> bytes:
    try:
        return bytes([_BYTE_OF_CHARACTER[character] for character in token])
    except KeyError:  # as the library does: a token with a character outside of the table is plain text
        return token.encode()


def _compile(decoders: list[dict[str, Any]]) -> Callable[[str], bytes]:
    """The function from a token's content to its bytes that the decoders amount to."""
    if not decoders:  # the library joins with spaces; the one too many at the start of the text is white space
        return lambda token: b" " + token.encode()
    replacements: list[tuple[str, str]] = []
    seen: set[str] = set()
    for decoder in decoders:
        match decoder:
            case {"type": "ByteLevel" | "ByteFallback" | "Fuse"}:
                pass
            case {"type": "Strip"} if "Fuse" in seen:
                pass  # trims the two ends of the whole text, not of each token
            case {"type": "Metaspace", "replacement": symbol} if "ByteLevel" not in seen:
                replacements.append((symbol, " "))
            case {"type": "Replace", "pattern": {"String": old}, "content": new} if "ByteLevel" not in seen:
                replacements.append((old, new))
            case _:
                raise UserError(
                    f"tokenizer decoder {decoder['type']}: the bytes of its tokens are not known; "
                    "use a byte-level BPE or a SentencePiece-style tokenizer"
                )
        seen.add(decoder["type"])

    def to_bytes(token: str) -> bytes:
        if "ByteFallback" in seen and (byte := _BYTE_TOKEN.fullmatch(token)):
            return bytes([int(byte[1], 16)])
        for old, new in replacements:
            token = token.replace(old, new)
        return _byte_level(token) if "ByteLevel" in seen else token.encode()

    return to_bytes


def token_bytes(tokenizer: Any, keep: frozenset[str] = frozenset()) -> list[bytes]:
    """The bytes that each token adds to the decoded text.

    Args:
      tokenizer: a fast transformers tokenizer or a `tokenizers.Tokenizer`, with a byte-level decoder (GPT-2, Llama 3,
        Qwen), a SentencePiece-style one (Llama 2, Gemma, Mistral) or none (tokens joined by spaces).
      keep: contents of special tokens that keep their bytes; decoding skips the other ones.

    Returns:
      A list whose index is the token id, up to the largest id. Special tokens and unused ids are `b""`. A leading space
      that the decoder trims from the very start of a text is still there: text in the middle has it.

    Raises:
      UserError: the tokenizer is not a fast one, or its decoder joins tokens in another way (WordPiece, CTC …).
    """
    backend = backend_of(tokenizer)
    decoders = _decoders(backend)
    to_bytes = _compile(decoders)
    byte_level = any(decoder["type"] == "ByteLevel" for decoder in decoders)
    vocabulary, added = backend.get_vocab(with_added_tokens=False), backend.get_added_tokens_decoder()
    contents = [b""] * (max([*vocabulary.values(), *added], default=-1) + 1)
    for token, token_id in vocabulary.items():
        contents[token_id] = to_bytes(token)
    for token_id, extra in added.items():
        if extra.special:
            contents[token_id] = extra.content.encode() if extra.content in keep else b""
        elif extra.content not in vocabulary:  # added as text, not spelled in the characters of a byte-level vocabulary
            contents[token_id] = extra.content.encode() if byte_level else to_bytes(extra.content)
    return contents

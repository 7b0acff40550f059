"""The tokenizer in a GGUF file's metadata, as a fast Hugging Face tokenizer.

Byte-level BPE (`gpt2`) splits a text first, by rules that the file only names; SentencePiece (`llama`) is a BPE whose
merges are found again from the pieces' scores.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepjax.errors import UserError
from stepjax.gguf_file import read_gguf

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""Types of tokens."""

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Splitting:
    """How a byte-level BPE splits a text before it merges.

    Attributes:
      regex: what a part is; empty: GPT-2's.
      digits: digits stand alone, and what is between them is split.
      whole: a part that is an entry is not merged.
      composed: the text is brought to Unicode's form NFC first.
      begins: begin-of-text comes first where the file does not state it.
    """

    regex: str = ""
    digits: bool = False
    whole: bool = False
    composed: bool = False
    begins: bool = False


SPLITTINGS: Mapping[str, Splitting] = {
    "gpt-2": Splitting(),
    "smollm": Splitting(digits=True),
    "llama-bpe": Splitting(_LLAMA3, whole=True, begins=True),
    "llama3": Splitting(_LLAMA3, whole=True, begins=True),
    "llama-v3": Splitting(_LLAMA3, whole=True, begins=True),
    "qwen2": Splitting(_QWEN2, composed=True),
    "deepseek-r1-qwen": Splitting(_QWEN2),
    "tekken": Splitting(_TEKKEN, whole=True, begins=True),
}
"""By `tokenizer.ggml.pre`."""


@dataclass(frozen=True)
class _Vocabulary:
    """Tokens by id, their types, and the metadata that they come from."""

    where: str
    metadata: Mapping[str, Any]
    tokens: list[str]
    kinds: list[int]

    def field(self, name: str, default: Any = None) -> Any:
        return self.metadata.get(f"tokenizer.ggml.{name}", default)

    def special(self, name: str) -> str | None:
        """The token whose id the field `name` has; UserError where it is no id."""
        i = self.field(name)
        if i is None:
            return None
        if type(i) is not int or not 0 <= i < len(self.tokens):
            raise UserError(f"{self.where}: tokenizer.ggml.{name}={str(i)[:40]} must be an id below {len(self.tokens)}")
        return self.tokens[i]


def gguf_tokenizer(path: str | Path) -> Any:
    """The fast tokenizer of a file; UserError where its kind is not known."""
    from transformers import PreTrainedTokenizerFast

    metadata = read_gguf(Path(path)).metadata
    found = _vocabulary(str(path), metadata)
    kind = found.field("model")
    if kind not in _MAKERS:
        raise UserError(
            f"{path}: tokenizer {str(kind)[:40]!r} is not supported (there are: {', '.join(_MAKERS)}); "
            "name a Hugging Face tokenizer in config.tokenizer.path"
        )
    try:
        backend, begins = _MAKERS[kind](found)
        _add_tokens(backend, found)
    except UserError:
        raise
    except Exception as error:  # the library raises plain exceptions at what does not fit
        raise UserError(
            f"{path}: its tokenizer cannot be built ({(str(error) or type(error).__name__).splitlines()[0][:100]})"
        ) from None
    names = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    special = {f"{name}_token": found.special(f"{field}_token_id") for name, field in names.items()}
    begin = special["bos_token"]
    if begin is not None and found.field("add_bos_token", begins):
        _begin_with(backend, begin)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **{name: token for name, token in special.items() if token is not None},
        chat_template=metadata.get("tokenizer.chat_template"),
        clean_up_tokenization_spaces=False,
    )


def _vocabulary(where: str, metadata: Mapping[str, Any]) -> _Vocabulary:
    tokens, kinds = (metadata.get(f"tokenizer.ggml.{name}") for name in ("tokens", "token_type"))
    if not isinstance(tokens, list) or not tokens:
        raise UserError(f"{where}: has no tokenizer (tokenizer.ggml.tokens); name one in config.tokenizer.path")
    kinds = [NORMAL] * len(tokens) if kinds is None else kinds
    if not isinstance(kinds, list) or len(kinds) != len(tokens):
        raise UserError(f"{where}: tokenizer.ggml.token_type must have one entry a token")
    count = len(tokens)
    # Rows that fill up the embedding are no tokens.
    while count and kinds[count - 1] == UNUSED and tokens[count - 1] == f"[PAD{count - 1}]":
        count -= 1
    return _Vocabulary(where, metadata, tokens[:count], kinds[:count])


def _byte_level(found: _Vocabulary) -> tuple[Any, bool]:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    name = found.field("pre")
    splitting = SPLITTINGS.get(name)
    if splitting is None:
        raise UserError(
            f"{found.where}: how its tokenizer splits texts (tokenizer.ggml.pre={str(name)[:40]}) is not known (there "
            f"are: {', '.join(SPLITTINGS)}); name a Hugging Face tokenizer in config.tokenizer.path"
        )
    merges = [tuple(merge.split(" ")) for merge in found.field("merges", [])]
    if not merges or any(len(merge) != 2 for merge in merges):
        raise UserError(f"{found.where}: tokenizer.ggml.merges must have two tokens an entry")
    vocab = {token: i for i, token in enumerate(found.tokens)}
    tokenizer = Tokenizer(models.BPE(vocab, merges, ignore_merges=splitting.whole))
    if splitting.composed:
        tokenizer.normalizer = normalizers.NFC()
    parts: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if splitting.digits else []
    if splitting.regex:
        parts.append(pre_tokenizers.Split(Regex(splitting.regex), "isolated"))
    parts.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not splitting.regex))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer, splitting.begins


def _sentence_piece(found: _Vocabulary) -> tuple[Any, bool]:
    from tokenizers import Tokenizer, decoders, models, normalizers

    if found.field("remove_extra_whitespaces", False):
        raise UserError(f"{found.where}: tokenizer.ggml.remove_extra_whitespaces is not supported")
    # Files spell tokens of spaces alone as they stand in a text; merges need them as pieces.
    tokens = ["▁" * len(t) if len(t) > 1 and not t.strip(" ") else t for t in found.tokens]
    vocab = {token: i for i, token in enumerate(tokens)}
    pieces = [t for t, kind in zip(tokens, found.kinds, strict=True) if kind in (NORMAL, USER_DEFINED)]
    unknown = found.special("unknown_token_id")
    tokenizer = Tokenizer(
        models.BPE(
            vocab, _merges(found, pieces, vocab), unk_token=unknown, fuse_unk=True, byte_fallback=BYTE in found.kinds
        )
    )
    prefixed = bool(found.field("add_space_prefix", True))
    spaces = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces]) if prefixed else spaces
    back = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*back, *([decoders.Strip(" ", 1, 0)] if prefixed else [])])
    return tokenizer, True


def _merges(found: _Vocabulary, pieces: list[str], vocab: Mapping[str, int]) -> list[tuple[str, str]]:
    """Every way to put a piece together from two others, those of the best pieces first."""
    scores = found.field("scores")
    if not isinstance(scores, list) or len(scores) < len(found.tokens):
        raise UserError(f"{found.where}: tokenizer.ggml.scores must have one entry a token")
    # User-defined pieces have no score of their own; a vocabulary is in the order of its scores.
    scored = found.kinds.count(USER_DEFINED) == 0
    known = set(pieces)
    merges = []
    for piece in pieces:
        i = vocab[piece]
        rank = -scores[i] if scored else i
        for at in range(1, len(piece)):
            first, second = piece[:at], piece[at:]
            if first in known and second in known:
                merges.append((rank, -len(first), -len(second), first, second))
    merges.sort()
    return [(first, second) for *_, first, second in merges]


_MAKERS = {"gpt2": _byte_level, "llama": _sentence_piece}
"""By `tokenizer.ggml.model`: a tokenizer, and whether begin-of-text comes first where the file does not state it."""


def _add_tokens(tokenizer: Any, found: _Vocabulary) -> None:
    """Control and user-defined tokens are found in a text before it is split."""
    from tokenizers import AddedToken

    vocab = tokenizer.get_vocab()
    for token, kind in zip(found.tokens, found.kinds, strict=True):
        if kind in (CONTROL, UNKNOWN) and token in vocab:
            tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False)])
        elif kind == USER_DEFINED and token in vocab:
            tokenizer.add_tokens([AddedToken(token, special=False, normalized=False)])


def _begin_with(tokenizer: Any, token: str) -> None:
    from tokenizers import processors

    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{token} $A", pair=f"{token} $A {token} $B", special_tokens=[(token, tokenizer.token_to_id(token))]
    )

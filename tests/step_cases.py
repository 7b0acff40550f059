"""What a step is, as a loop over bytes, and tokenizers to hold the splitter against it."""

import functools
import random

import jax
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from stepjax.steps import StepSplitter

WHITE = b" \t\n\r\x0b\x0c"


def labels(data: bytes, separator: bytes) -> tuple[list[int], list[bool]]:
    """For each byte: the step that it is in (−1 before the first), and whether a boundary is pending after it."""
    step, pending, window, number, waits = -1, False, b"", [], []
    for byte in data:
        if byte not in WHITE:
            if pending:
                window = b""
            if pending or step < 0:
                step += 1
            pending = False
        if not pending:
            window += bytes([byte])
            if (window if b"\r" in separator else window.replace(b"\r\n", b"\n")).endswith(separator):
                pending, window = step >= 0, b""
        number.append(step)
        waits.append(pending)
    return number, waits


def reference(pieces: list[bytes], mask: list[bool], separator: bytes) -> dict[str, list]:
    """Index, end, "opens a step at its first non-white-space byte" and "pending after it" of every token."""
    kept = [piece if live else b"" for piece, live in zip(pieces, mask, strict=True)]
    data = b"".join(kept)
    number, waits = labels(data, separator)
    index, opens, pending, position = [], [], [], 0
    for piece, live in zip(kept, mask, strict=True):
        before = [number[i] for i in range(position) if data[i] not in WHITE]
        inside = [number[i] for i in range(position, position + len(piece)) if data[i] not in WHITE]
        index.append((inside or before[-1:] or [0])[0] if live else -1)
        opens.append(bool(inside) and inside[0] != (before or [-1])[-1])
        position += len(piece)
        pending.append(bool(position) and waits[position - 1])
    end = [live and index[t] not in index[t + 1 :] for t, live in enumerate(mask)]
    return {"index": index, "end": end, "opens": opens, "pending": pending}


def byte_level() -> Tokenizer:
    """A trained byte-level BPE whose merges run over step boundaries."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    corpus = ["sum.\n\n", "\n\nThe", "a;b;c", " ки", "\n\nStep", "\n\n\n", "🙂;", "</step>"] * 9
    corpus += [".\r\n\r\n", "\n\r\nThe"] * 9
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, special_tokens=["<|end|>", "<|sep|>"])
    tokenizer.train_from_iterator(corpus, trainer)
    vocabulary = tokenizer.get_vocab()
    assert {"ĊĊ", ".ĊĊ", "ĊĊThe", "a;b;c", "čĊ", ".čĊčĊ", "ĊčĊThe"} <= set(vocabulary), sorted(
        vocabulary, key=vocabulary.get
    )[258:]
    return tokenizer


def sentencepiece() -> Tokenizer:
    """A vocabulary with ▁, byte fallback and pieces with several steps."""
    words = [
        "▁",
        "▁▁",
        "a",
        ".",
        "\n",
        "\n\n",
        ".\n\n",
        "\n\nThe",
        "\r\n",
        "\n\r",
        "\n\r\n",
        ".\r\n\r\nThe",
        "▁ки",
        "к",
        "и",
        ";",
        "a;b",
        ";;",
        "</step>",
        "St",
        "ep",
    ]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, [], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer


def words(*contents: str) -> Tokenizer:
    """A tokenizer whose ids are these strings, as they stand."""
    tokenizer = Tokenizer(models.WordLevel({content: i for i, content in enumerate(dict.fromkeys(contents))}))
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


MAKERS = {"byte-level": functools.cache(byte_level), "sentencepiece": functools.cache(sentencepiece)}


@functools.cache
def compiled(kind: str, separator: str):
    """The splitter, its jitted `split`, its incremental form as one scan, and the ids of each byte string."""
    splitter = StepSplitter(MAKERS[kind](), separator)

    @jax.jit
    def both(tokens, mask):
        def read(state, column):
            state, opens = splitter.advance(state, *column)
            return state, (opens, splitter.pending(state))

        steps = splitter.split(tokens, mask)
        _, columns = jax.lax.scan(read, splitter.initial(len(tokens)), (tokens.T, mask.T))
        return steps, steps.count, columns[0].T, columns[1].T

    ids: dict[bytes, list[int]] = {}
    for token_id, content in enumerate(splitter.token_bytes):
        ids.setdefault(content, []).append(token_id)
    return splitter, both, ids


def segment(data: bytes, ids: dict[bytes, list[int]], rng: random.Random) -> list[int]:
    """Tokens that spell the bytes, cut at random: any token that fits, not only those that encoding would choose."""
    tokens, position = [], 0
    while position < len(data):
        fits = [n for n in range(1, 9) if position + n <= len(data) and data[position : position + n] in ids]
        size = rng.choice(fits)
        tokens.append(rng.choice(ids[data[position : position + size]]))
        position += size
    return tokens

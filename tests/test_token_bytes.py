"""The bytes of tokens: joined, they are the text that the library itself decodes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from stepjax.errors import UserError
from stepjax.token_bytes import special_contents, token_bytes

CORPUS = ["The sum is 4.\n\nThe rest is 5.\n\nThe end; и так далее 🙂.\n\n\n", "  Так: ключ; кит.\n\nThe кит"] * 3


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet))
    return tokenizer


def sentencepiece() -> Tokenizer:
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "T", "h", "e", ".", "к", "и"]
    merges = [("▁", "T"), ("▁T", "h"), ("▁Th", "e"), ("к", "и"), ("▁", "ки"), ("▁", "▁")]
    vocabulary = {piece: i for i, piece in enumerate(pieces + ["".join(pair) for pair in merges])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


TEXTS = st.text(st.sampled_from("The ки.\n\t;🙂é▁") | st.characters(exclude_categories=["Cs"]), max_size=30)
BYTE_LEVEL, SENTENCEPIECE = byte_level(), sentencepiece()


def joined(tokenizer: Tokenizer, ids: list[int]) -> bytes:
    table = token_bytes(tokenizer)
    return b"".join(table[i] for i in ids)


@settings(deadline=None, max_examples=40)
@given(TEXTS)
def test_byte_level_tokens_join_to_the_text(text: str):
    assert joined(BYTE_LEVEL, BYTE_LEVEL.encode(text).ids) == text.encode()


@settings(deadline=None, max_examples=40)
@given(TEXTS)
def test_sentencepiece_tokens_join_to_the_text_with_its_space_in_front(text: str):
    ids = SENTENCEPIECE.encode(text).ids
    assert joined(SENTENCEPIECE, ids) == ((" " + text) if text else "").replace("▁", " ").encode()
    assert SENTENCEPIECE.decode(ids) == text.replace("▁", " ")


def test_every_byte_has_its_token():
    for tokenizer in (BYTE_LEVEL, SENTENCEPIECE):
        assert {bytes([byte]) for byte in range(256)} <= set(token_bytes(tokenizer))


def test_byte_level_token_outside_of_the_table_is_plain_text():
    tokenizer = Tokenizer(models.BPE({"Ġa": 0, "a b": 1, "к": 2, "Ċ": 3}, []))
    tokenizer.decoder = decoders.ByteLevel()
    assert token_bytes(tokenizer) == [b" a", b"a b", "к".encode(), b"\n"]
    assert tokenizer.decode([1, 2]) == "a bк"


def test_metaspace():
    tokenizer = Tokenizer(models.WordLevel({"▁a": 0, "b▁": 1, "<0x0A>": 2}))
    tokenizer.decoder = decoders.Metaspace()
    assert token_bytes(tokenizer) == [b" a", b"b ", b"<0x0A>"]  # no byte fallback: the name of a byte is text
    assert tokenizer.decode([2, 1, 0]) == "<0x0A>b  a"


def test_no_decoder_joins_with_spaces():
    tokenizer = Tokenizer(models.WordLevel({"a": 0, ";": 1}))
    assert token_bytes(tokenizer) == [b" a", b" ;"]
    assert tokenizer.decode([0, 1, 0]) == "a ; a"


def test_decoder_fuse_alone_adds_nothing():
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "\n": 1}))
    tokenizer.decoder = decoders.Fuse()
    assert token_bytes(tokenizer) == [b"a", b"\n"]


def test_added_tokens():
    tokenizer = byte_level()
    size = tokenizer.get_vocab_size()
    tokenizer.add_tokens(["</step>", "éé", "a b", "é"])
    tokenizer.add_special_tokens(["<|end|>", "<|sep|>"])
    assert token_bytes(tokenizer)[size:] == [b"</step>", "éé".encode(), b"a b", b"", b""]
    assert token_bytes(tokenizer)[tokenizer.token_to_id("é")] == b"\xe9"  # the name of a byte: it stays that byte
    assert token_bytes(tokenizer, frozenset({"<|sep|>", "unknown"}))[size:][-2:] == [b"", b"<|sep|>"]
    assert special_contents(tokenizer) == {"<|end|>", "<|sep|>"}


def test_added_tokens_of_sentencepiece_go_through_the_decoder():
    tokenizer = sentencepiece()
    size = tokenizer.get_vocab_size()
    tokenizer.add_tokens([AddedToken("▁▁▁", normalized=False), AddedToken("\n\n", normalized=False)])
    assert token_bytes(tokenizer)[size:] == [b"   ", b"\n\n"]
    assert tokenizer.decode([size + 1, size, size + 1]) == "\n\n   \n\n"


def test_holes_are_empty():
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 4}))
    tokenizer.decoder = decoders.Fuse()
    assert token_bytes(tokenizer) == [b"a", b"", b"", b"", b"b"]


def test_transformers_tokenizer():
    from transformers import PreTrainedTokenizerFast

    tokenizer = byte_level()
    size = tokenizer.get_vocab_size()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")
    assert token_bytes(wrapped)[:size] == token_bytes(BYTE_LEVEL)
    assert token_bytes(wrapped)[wrapped.eos_token_id] == b""


@pytest.mark.parametrize("decoder", [decoders.WordPiece(), decoders.CTC(), decoders.Strip(" ", 1, 0)])
def test_unknown_decoders_are_refused(decoder):
    tokenizer = Tokenizer(models.WordLevel({"a": 0}))
    tokenizer.decoder = decoder
    with pytest.raises(UserError, match=type(decoder).__name__):
        token_bytes(tokenizer)


def test_slow_tokenizers_are_refused():
    with pytest.raises(UserError, match="object: only fast tokenizers"):
        token_bytes(object())

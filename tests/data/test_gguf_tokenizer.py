"""The tokenizer of a GGUF file: the ids of the tokenizer that it was made from."""

import functools
import inspect

import numpy as np
import pytest
from models.gguf_files import CASES, write_gguf
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers.convert_slow_tokenizer import TikTokenConverter
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from stepjax.data.framing import Framing
from stepjax.data.tokenizers import load_tokenizer
from stepjax.errors import UserError
from stepjax.token_bytes import token_bytes

PARTS = (
    *(
        "Tom",
        " has",
        " 48",
        "7",
        "\n",
        "\n\n",
        "\n\n1",
        ". ",
        "  ",
        "   3",
        "\t\t",
        "\t12",
        " eggs'",
        "'ve",
        "don't",
        "I'LL",
    ),
    *(
        "+",
        " = ",
        "<<48/2=24>>",
        "####",
        " 1,000.50",
        "$",
        "\\frac{12}{34}",
        "naïve",
        "e\u0301",
        "Zürich",
        "北京",
        "тест",
    ),
    *("😀", "²", "½", "\r\n", "_x", "def f(x):\n    return", " ", "—", "ไทย๑๒"),
)


def drawn_texts(count):
    random = np.random.default_rng(5)
    return ["".join(random.choice(PARTS, random.integers(1, 12))) for _ in range(count)]


TEXTS = drawn_texts(200)
CORPUS = drawn_texts(2000)

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def split(regex):
    return [pre_tokenizers.Split(Regex(regex), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]


LLAMA3 = inspect.signature(TikTokenConverter).parameters["pattern"].default
SPLITTERS = {
    "gpt-2": [pre_tokenizers.ByteLevel(False)],
    "smollm": [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(False)],
    "qwen2": split(PRETOKENIZE_REGEX),
    "llama-bpe": split(LLAMA3),
}
"""As the published tokenizers have them, from transformers."""


@functools.cache
def trained(name):
    """A byte-level BPE that splits as `name` says, with control tokens and one that a user defined."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=name == "llama-bpe"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(SPLITTERS[name])
    if name == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    return tokenizer


def metadata_of(tokenizer, name):
    import json

    vocab = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    added = {t.content: 3 if t.special else 4 for t in tokenizer.get_added_tokens_decoder().values()}
    merges = [" ".join(m) for m in json.loads(tokenizer.to_str())["model"]["merges"]]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": name,
        "tokenizer.ggml.tokens": [*vocab, *(f"[PAD{i}]" for i in range(len(vocab), len(vocab) + 5))],
        "tokenizer.ggml.token_type": [*(added.get(t, 1) for t in vocab), *[5] * 5],
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.chat_template": TEMPLATE,
    }


def loaded(folder, name, **changes):
    metadata = metadata_of(trained(name), name) | {f"tokenizer.ggml.{k}": v for k, v in changes.items()}
    return load_tokenizer(write_gguf(folder / "model.gguf", CASES["qwen2"], metadata=metadata))


@pytest.mark.parametrize("name", SPLITTERS)
def test_ids_of_200_texts(name, tmp_path):
    tokenizer, wanted = loaded(tmp_path, name), trained(name)
    for text in [*TEXTS, "<|im_start|>user\n1<think> 2<|im_end|>\n\n3"]:
        assert tokenizer.encode(text, add_special_tokens=False) == wanted.encode(text, add_special_tokens=False).ids
        if name != "qwen2":  # which composes characters
            assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
    assert len(tokenizer) == wanted.get_vocab_size(), "rows that fill up the embedding are no tokens"
    assert len(token_bytes(tokenizer)) == len(tokenizer)


def test_the_splittings_differ():
    """Else the texts would not tell them apart."""
    ids = {name: [tokenizer_ids(name, text) for text in TEXTS] for name in SPLITTERS}
    assert all(ids[a] != ids[b] for a in ids for b in ids if a < b)


def tokenizer_ids(name, text):
    return [part for part, _ in trained(name).pre_tokenizer.pre_tokenize_str(text)]


def test_special_tokens_and_template(tmp_path):
    tokenizer = loaded(tmp_path, "smollm")
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (
        "<|endoftext|>",
        "<|im_end|>",
        "<|endoftext|>",
    )
    framing = Framing.of(tokenizer)
    assert framing.begin == () and framing.ends == (2,)
    ids = framing.chat([{"role": "user", "content": "1+1?"}])
    assert tokenizer.decode(ids) == "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n" and ids[0] == 1
    assert tokenizer.decode([1, *tokenizer.encode("a"), 2], skip_special_tokens=True) == "a"
    tokenizer.save_pretrained(str(tmp_path / "saved"))
    again = load_tokenizer(tmp_path / "saved")
    assert all(again.encode(text) == tokenizer.encode(text) for text in TEXTS[:20])
    assert again.chat_template == TEMPLATE


@pytest.mark.parametrize(
    ("name", "flag", "begin"),
    [("smollm", None, ()), ("smollm", True, (0,)), ("llama-bpe", None, (0,)), ("llama-bpe", False, ())],
)
def test_begin_of_text(name, flag, begin, tmp_path):
    """Where the file does not say it, llama.cpp's default of the splitting counts."""
    assert Framing.of(loaded(tmp_path, name, add_bos_token=flag)).begin == begin


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pre": "viking"}, "(tokenizer.ggml.pre=viking) is not known (there are: gpt-2, smollm, "),
        ({"pre": None}, "(tokenizer.ggml.pre=None) is not known"),
        ({"model": "rwkv"}, "tokenizer 'rwkv' is not supported (there are: gpt2, llama)"),
        ({"tokens": None}, "has no tokenizer (tokenizer.ggml.tokens); name one in config.tokenizer.path"),
        ({"token_type": [1, 1]}, "tokenizer.ggml.token_type must have one entry a token"),
        ({"merges": ["a"]}, "tokenizer.ggml.merges must have two tokens an entry"),
        ({"merges": ["a nothing"]}, "its tokenizer cannot be built"),
        ({"bos_token_id": 9999}, "tokenizer.ggml.bos_token_id=9999 must be an id below 70"),
        ({"eos_token_id": None}, "this tokenizer has no end-of-text token"),
        ({"model": "llama"}, "tokenizer.ggml.scores must have one entry a token"),
    ],
)
def test_mistakes_take_one_line(changes, message, tmp_path):
    with pytest.raises(UserError) as error:
        loaded(tmp_path, "smollm", **changes)
    assert message in str(error.value) and "\n" not in str(error.value) and "model.gguf" in str(error.value)


@pytest.mark.parametrize("prefix", [True, False])
def test_ids_of_sentencepiece(prefix, tmp_path):
    pieces = pytest.importorskip("sentencepiece")
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(text.replace("\n", " ").replace("\r", " ") for text in CORPUS))
    pieces.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(tmp_path / "m"), vocab_size=800, model_type="bpe", byte_fallback=True,
        split_digits=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
        add_dummy_prefix=prefix, allow_whitespace_only_pieces=True, character_coverage=0.999, minloglevel=2,
        num_threads=1, max_sentencepiece_length=16,
    )  # fmt: skip
    model = pieces.SentencePieceProcessor(model_file=str(tmp_path / "m.model"))
    count = model.vocab_size()
    kinds = [
        2 if model.is_unknown(i) else 3 if model.is_control(i) else 6 if model.is_byte(i) else 1 for i in range(count)
    ]
    metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [model.id_to_piece(i) for i in range(count)],
        "tokenizer.ggml.scores": [float(model.get_score(i)) for i in range(count)],
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": model.bos_id(),
        "tokenizer.ggml.eos_token_id": model.eos_id(),
        "tokenizer.ggml.unknown_token_id": model.unk_id(),
        "tokenizer.ggml.add_space_prefix": prefix,
    }
    tokenizer = load_tokenizer(write_gguf(tmp_path / "model.gguf", CASES["llama"], metadata=metadata))
    assert Framing.of(tokenizer).begin == (model.bos_id(),)
    for text in TEXTS:
        assert tokenizer.encode(text) == [model.bos_id(), *model.encode(text)], text
        assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True) == text

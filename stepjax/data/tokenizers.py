"""The run's tokenizer: from a folder or hub, the task's own, or a byte-level BPE trained on the task's text."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepjax.data.gguf_tokenizer import gguf_tokenizer
from stepjax.errors import UserError
from stepjax.gguf_file import is_gguf

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def with_special_tokens(tokenizer: Any) -> "PreTrainedTokenizerFast":
    """A `tokenizers.Tokenizer` as transformers' one, whose `<pad>`, `<s>`, `</s>` and, where it has it, `<unk>` are
    what they say."""
    from transformers import PreTrainedTokenizerFast

    unknown = {"unk_token": "<unk>"} if tokenizer.token_to_id("<unk>") is not None else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        clean_up_tokenization_spaces=False,
        **unknown,
    )


def train_bpe(texts: Iterable[str], vocab: int) -> Any:
    """A byte-level BPE with at most `vocab` entries, every digit a token of its own (so that sums can be learned).

    Special tokens: `<pad>` 0, `<s>` 1, `</s>` 2; in a text, their names stand for them. Any other text can be written:
    all 256 bytes are entries.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    if vocab < 300:
        raise UserError(f"config.tokenizer.vocab={vocab}: a byte-level BPE needs at least 300 entries")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            # Digits and the marks of calculations stand alone; letters, other marks and line ends group as in GPT-2.
            pre_tokenizers.Split(Regex(r"\d|[-+*/=<>()]|\n+| ?[^\s\d\-+*/=<>()]+|\s+(?!\S)|\s+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return with_special_tokens(tokenizer)


def load_tokenizer(path: str | Path, where: str = "config.tokenizer.path") -> Any:
    """A Hugging Face tokenizer, or that of a GGUF file, that has an end-of-text token.

    `where` names the option in errors.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = gguf_tokenizer(path) if is_gguf(path) else AutoTokenizer.from_pretrained(str(path))
        encode(tokenizer, "a b")  # a setting of a wrong type is found only now
    except UserError:
        raise
    except BaseException as error:  # a damaged file may raise any error of the libraries, whose Rust part panics, too
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{where}={path}: no tokenizer can be loaded from there ({first})") from None
    if tokenizer.eos_token_id is None:
        raise UserError(f"{where}={path}: this tokenizer has no end-of-text token")
    return tokenizer


def encode(tokenizer: Any, text: str) -> list[int]:
    """Plain ids of a text: no special tokens added."""
    return tokenizer.encode(text, add_special_tokens=False)

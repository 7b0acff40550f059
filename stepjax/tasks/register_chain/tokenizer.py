"""RegisterChain's own tokenizer: one token a character, in Hugging Face format, built without any download."""

from typing import TYPE_CHECKING

from stepjax.config.register_chain import OPERATORS, REGISTERS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ALPHABET = "\n0123456789" + REGISTERS + OPERATORS + "=;?!"
SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>")


def build_tokenizer() -> "PreTrainedTokenizerFast":
    """A byte-level BPE without merges over `ALPHABET`: ids 0–3 are `SPECIAL_TOKENS`, then the characters.

    Any other byte becomes `<unk>`, so nothing is dropped silently. Nothing is added at the start or the end.
    """
    # Imported here: reading or rating problems should not wait for transformers to load.
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    from stepjax.data.tokenizers import with_special_tokens

    to_symbol = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)  # "\n" is spelled "Ċ" in a vocabulary
    symbols = [to_symbol.pre_tokenize_str(character)[0][0] for character in ALPHABET]
    vocabulary = {token: index for index, token in enumerate([*SPECIAL_TOKENS, *symbols])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", fuse_unk=False))
    tokenizer.pre_tokenizer = to_symbol
    tokenizer.decoder = decoders.ByteLevel()
    return with_special_tokens(tokenizer)

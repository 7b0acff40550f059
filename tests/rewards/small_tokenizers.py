"""Small tokenizers of the two kinds that public models have, trained on a few lines, with chat templates."""

import functools
import json

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

LINES = [
    "Janet's ducks lay 16 eggs per day. She eats three, so she has 16 - 3 = 13 eggs left.",
    "Step 1: The total ratio is 5+8 = <<5+8=13>>13. ки\nStep 2: The answer is: 52 ки",
    "So x + y = 4.\n\nThen x = 2.\n\nTherefore the final answer is \\boxed{2}.\n",
    "Also 7 × 8 = 56 ≥ 50, größer als 5 € und π ≈ 3.14. + - + - + -",
    "system user assistant Please reason step by step, and put your final answer within",
] * 4

CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are helpful.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
)
LLAMA = (
    "{% if not date_string is defined %}{% set date_string = '26 Jul 2024' %}{% endif %}{{ bos_token }}"
    "<|start_header_id|>system<|end_header_id|>\n\nToday Date: {{ date_string }}\n\n<|eot_id|>"
    "{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
)
SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@functools.cache
def byte_level(chat: str = "chatml"):
    """Byte-level BPE with the pre-tokenizer of Qwen2 and Llama 3: ".\n\n" is one token, "ö" may be two."""
    special = {
        "chatml": ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<extra_0>"],
        "llama": ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    }[chat]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pattern=Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        min_frequency=2,
    )
    tokenizer.train_from_iterator([line.replace("ö", "") for line in LINES], trainer)
    if chat == "llama":
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 0)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=special[0],
        eos_token=special[2] if chat == "chatml" else special[3],
        pad_token=special[0],
        clean_up_tokenization_spaces=False,
        chat_template={"chatml": CHATML, "llama": LLAMA}[chat],
    )


@functools.cache
def metaspace():
    """SentencePiece-like BPE with byte fallback, as Mistral's: spaces are ▁, a line end and "€" are bytes."""
    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(vocab_size=200, show_progress=False, max_token_length=8)
    # Words, so that no token spans two; without "€" and line ends, which fall back to bytes.
    words = [word.replace("€", "") for line in LINES for word in line.split()]
    learner.train_from_iterator(words, trainer)
    learned = json.loads(learner.to_str())["model"]
    entries = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    entries += sorted(learned["vocab"], key=learned["vocab"].get)
    tokenizer = Tokenizer(
        models.BPE(
            vocab={entry: i for i, entry in enumerate(entries)},
            merges=[tuple(merge) for merge in learned["merges"]],
            byte_fallback=True,
            unk_token="<unk>",
            fuse_unk=True,
        )
    )
    tokenizer.normalizer = learner.normalizer
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )

"""Chat templates that write what those of seven public instruct models write, and tokenizers that have them.

What the assistant writes stands between `generation` marks, from which transformers makes an assistant mask.
"""

import functools

from rewards.small_tokenizers import LINES
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{%- if messages[0]['role'] != 'system' and SYSTEM %}<|im_start|>system\n{{ SYSTEM }}<|im_end|>\n{% endif -%}"
    "{%- for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] }}<|im_end|>{% endgeneration %}{% else %}{{ m['content'] }}<|im_end|>{% endif %}\n"
    "{% endfor -%}{%- if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN3 = (
    "{%- for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}"
    "{% generation %}{% if loop.last %}<think>\n\n</think>\n\n{% endif %}{{ m['content'] }}<|im_end|>"
    "{% endgeneration %}{% else %}{{ m['content'] }}<|im_end|>{% endif %}\n{% endfor -%}"
    "{%- if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
LLAMA3 = (
    "{{- bos_token }}<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n\n"
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] | trim }}{% set messages = messages[1:] %}"
    "{% endif %}<|eot_id|>{%- for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] | trim }}<|eot_id|>{% endgeneration %}{% else %}"
    "{{ m['content'] | trim }}<|eot_id|>{% endif %}{% endfor -%}"
    "{%- if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MISTRAL = (
    "{{- bos_token }}{%- for m in messages %}{% if m['role'] == 'system' %}[INST] {{ m['content'] }}\n\n"
    "{% elif m['role'] == 'user' %}{% if loop.index0 == 0 or messages[loop.index0 - 1]['role'] != 'system' %}[INST] "
    "{% endif %}{{ m['content'] }}[/INST]{% else %}"
    "{% generation %} {{ m['content'] }}{{ eos_token }}{% endgeneration %}{% endif %}{% endfor -%}"
)
GEMMA2 = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if m['role'] == 'assistant' %}<start_of_turn>model\n{% generation %}"
    "{{ m['content'] | trim }}<end_of_turn>{% endgeneration %}\n{% else %}<start_of_turn>user\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
GEMMA3 = (
    "{{ bos_token }}{% set first = '' %}{% if messages[0]['role'] == 'system' %}"
    "{% set first = messages[0]['content'] + '\n\n' %}{% set messages = messages[1:] %}{% endif %}"
    "{% for m in messages %}{% if m['role'] == 'assistant' %}<start_of_turn>model\n{% generation %}"
    "{{ m['content'] | trim }}<end_of_turn>{% endgeneration %}\n{% else %}<start_of_turn>user\n"
    "{% if loop.first %}{{ first }}{% endif %}{{ m['content'] | trim }}<end_of_turn>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


def _chatml(system: str) -> str:
    return f"{{% set SYSTEM = {system!r} %}}" + CHATML


STYLES = {
    # template, begin-of-text, end-of-text, end of an answer
    "qwen2": (_chatml("You are Qwen, a helpful assistant."), None, "<|endoftext|>", "<|im_end|>"),
    "qwen3": (QWEN3, None, "<|im_end|>", "<|im_end|>"),
    "llama": (LLAMA3, "<|begin_of_text|>", "<|eot_id|>", "<|eot_id|>"),
    "mistral": (MISTRAL, "<s>", "</s>", "</s>"),
    "gemma2": (GEMMA2, "<bos>", "<eos>", "<end_of_turn>"),
    "gemma3": (GEMMA3, "<bos>", "<eos>", "<end_of_turn>"),
    "smollm2": (_chatml("You are a helpful AI assistant named SmolLM."), "<|im_start|>", "<|im_end|>", "<|im_end|>"),
}
SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>"),
    *("<|eot_id|>", "<s>", "</s>", "[INST]", "[/INST]", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
    *("<think>", "</think>"),
)


@functools.cache
def _learned() -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=[*SPECIAL], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(LINES, trainer)
    return tokenizer.to_str()


@functools.cache
def tokenizer_of(style: str) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with the special tokens and the template of a public model."""
    template, begin, eos, _ = STYLES[style]
    tokenizer = Tokenizer.from_str(_learned())
    if begin is not None and style != "smollm2":
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", special_tokens=[(begin, SPECIAL.index(begin))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=begin,
        eos_token=eos,
        clean_up_tokenization_spaces=False,
        chat_template=template,
    )

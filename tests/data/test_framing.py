"""What begins a prompt and ends a response, for tokenizers as public models have them."""

import copy

import pytest
from rewards.small_tokenizers import byte_level, metaspace

from stepjax.data.framing import Framing, template_ends
from stepjax.data.tokenizers import encode, load_tokenizer, train_bpe
from stepjax.steps import StepSplitter
from stepjax.tasks.register_chain import build_tokenizer

GEMMA = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>{{ message['role'] }}\n"
    "{{ message['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
QUESTION = [{"role": "user", "content": "What is 5+8?"}]


def llama():
    """In the style of Llama 3: texts begin with begin-of-text, and the template writes it as well."""
    return byte_level("llama")


@pytest.fixture(scope="module")
def gemma():
    """In the style of Gemma: texts begin with `<s>`, end-of-text is `</s>`, a turn ends in another token."""
    tokenizer = copy.deepcopy(metaspace())
    tokenizer.add_special_tokens({"additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"]})
    tokenizer.chat_template = GEMMA
    return tokenizer


def shown(tokenizer, ids):
    return tokenizer.decode(ids, skip_special_tokens=False)


def test_a_prompt_begins_as_the_tokenizer_begins_texts():
    for tokenizer, begin in ((llama(), "<|begin_of_text|>"), (metaspace(), "<s>")):
        framing = Framing.of(tokenizer)
        assert [tokenizer.convert_ids_to_tokens(i) for i in framing.begin] == [begin]
        found = framing.prompt("So x = 4.\n")
        assert found == tokenizer.encode("So x = 4.\n") and found[1:] == encode(tokenizer, "So x = 4.\n")
        assert framing.prompt("") == [], "an empty prompt stays empty, so that it can be refused"


@pytest.mark.parametrize("tokenizer", [byte_level(), build_tokenizer(), train_bpe(["a b"], 300)])
def test_where_the_tokenizer_begins_texts_with_nothing_neither_does_a_prompt(tokenizer):
    framing = Framing.of(tokenizer)
    assert framing.begin == () and framing.prompt("a=7\n") == encode(tokenizer, "a=7\n")


def test_a_text_that_spells_its_beginning_gets_no_second_one(gemma):
    for tokenizer in (llama(), gemma):
        framing, begin = Framing.of(tokenizer), tokenizer.bos_token_id
        assert framing.prompt(f"{tokenizer.bos_token}So").count(begin) == 1
        found = framing.chat(QUESTION)
        assert found[0] == begin and found.count(begin) == 1
        assert found == tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_dict=False)


def test_an_end_of_text_that_the_tokenizer_adds_is_no_part_of_a_prompt():
    from tokenizers.processors import TemplateProcessing

    tokenizer = copy.deepcopy(metaspace())
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    assert tokenizer.encode("So")[-1] == 2
    assert Framing.of(tokenizer).prompt("So") == [1, *encode(tokenizer, "So")]


def test_what_the_template_writes_after_an_answer_ends_a_response(gemma):
    names = {"chatml": "<|im_end|>", "llama": "<|eot_id|>"}
    for chat, end in names.items():
        assert template_ends(byte_level(chat)) == (byte_level(chat).convert_tokens_to_ids(end),)
    turn = gemma.convert_tokens_to_ids("<end_of_turn>")
    assert Framing.of(gemma).ends == (gemma.eos_token_id, turn)
    assert Framing.of(gemma).end == gemma.eos_token_id
    assert Framing.of(metaspace()).ends == (2,), "there is no template"


@pytest.mark.parametrize(
    ("template", "ends"),
    [
        ("{% for m in messages %}{{ m['content'] }}\n{% endfor %}", ()),  # plain text follows
        ("{{ raise_exception('no') }}", ()),
        ("{% for m in messages %}{{ m['role'] }}{% endfor %}", ()),
        ("{% for m in messages %}{{ m['content'] }} \n</s>{% endfor %}", ("</s>",)),
        ("{% for m in messages %}{{ m['content'] }}<end_of_turn>2</s>{% endfor %}", ("<end_of_turn>2",)),  # the longest
    ],
)
def test_templates_that_end_otherwise(template, ends, gemma):
    tokenizer = copy.deepcopy(gemma)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<start_of_turn>", "<end_of_turn>", "<end_of_turn>2"]})
    tokenizer.chat_template = template
    assert template_ends(tokenizer) == tuple(tokenizer.convert_tokens_to_ids(e) for e in ends)


def test_the_ends_of_the_generation_config_count_and_none_twice():
    framing = Framing.of(byte_level(), [3, 0, 3, 2])
    assert framing.ends == (2, 3, 0)  # <|im_end|> is end-of-text, the template's end, and named
    assert framing.finished([9, 3]) and framing.finished([0]) and not framing.finished([3, 9])
    assert not framing.finished([])


def test_the_text_of_a_response_has_no_end_whatever_kind_of_token_it_is():
    tokenizer = copy.deepcopy(byte_level())
    tokenizer.add_tokens(["<|turn|>"])
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}<|turn|>{% endfor %}"
    framing, turn = Framing.of(tokenizer), tokenizer.convert_tokens_to_ids("<|turn|>")
    ids = [*encode(tokenizer, "So x = 4.\n\nThen x = 2.\n\n"), turn]
    assert "<|turn|>" in tokenizer.decode(ids, skip_special_tokens=True) and framing.ends == (2, turn)
    assert framing.text(ids) == "So x = 4.\n\nThen x = 2.\n\n" == framing.text(ids[:-1]) == framing.text([*ids[:-1], 2])
    steps = StepSplitter(tokenizer, "\n\n", framing.ends).texts(ids)
    assert [s.strip() for s in steps] == ["So x = 4.", "Then x = 2."], "no step of its own"
    assert len(StepSplitter(tokenizer, "\n\n").texts(ids)) == 3
    assert len(StepSplitter(tokenizer, "<|turn|>", framing.ends).texts([*ids, *ids])) == 2, "it separates steps"


def test_a_response_ends_once():
    framing = Framing.of(byte_level(), [0])
    plain = encode(framing.tokenizer, "So x = 4.")
    assert framing.response("So x = 4.") == framing.response("So x = 4.<|im_end|>") == [*plain, 2]
    assert framing.response("So x = 4.<|endoftext|>") == [*plain, 0]
    assert framing.response("") == [2]


def test_a_tokenizer_that_was_saved_begins_and_ends_as_before(gemma, tmp_path):
    for name, tokenizer in (("llama", llama()), ("gemma", gemma), ("chatml", byte_level())):
        tokenizer.save_pretrained(str(tmp_path / name))
        again = Framing.of(load_tokenizer(tmp_path / name))
        before = Framing.of(tokenizer)
        assert (again.begin, again.ends) == (before.begin, before.ends)
        assert again.prompt("So x = 4.\n") == before.prompt("So x = 4.\n")

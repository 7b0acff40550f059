"""The byte-level BPE that a run trains for itself: any text comes back, digits stand alone, files are portable."""

import functools
import json

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from stepjax.data.tokenizers import load_tokenizer, train_bpe
from stepjax.errors import UserError
from stepjax.token_bytes import token_bytes

CORPUS = [
    f"Tom has {i} apples and buys {i * 7} more of them together. <<{i}+{i * 7}={i * 8}>>{i * 8}\n#### {i * 8}\n\n"
    "How many pieces of fruit does everybody eat in a week?\n"
    for i in range(200)
]


@functools.cache
def trained():
    return train_bpe(CORPUS, 320)


def ids(text: str) -> list[int]:
    return trained().encode(text, add_special_tokens=False)


def test_special_tokens_and_size():
    tokenizer = trained()
    assert len(tokenizer) == 320
    assert tokenizer.convert_ids_to_tokens([0, 1, 2]) == ["<pad>", "<s>", "</s>"]
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert ids("a") == tokenizer.encode("a"), "no special token is added to a text"


def test_it_has_learned_words():
    assert len(ids("apples and")) < len("apples and") / 2


def test_digits_and_marks_stand_alone():
    contents = token_bytes(trained())
    text = "48+1024=1072 <<12*3=36>>36\n#### 7"
    for token in ids(text):
        content = contents[token]
        if any(mark in content for mark in b"0123456789+-*/=<>()"):
            assert len(content) == 1, content
    assert not any(len(c) > 1 and any(48 <= b <= 57 for b in c) for c in contents)


def test_line_ends_are_never_inside_a_word():
    contents = token_bytes(trained())
    assert all(set(c) == {10} for c in contents if 10 in c)


@settings(deadline=None, max_examples=200)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
@example("🙂 naïve\n\n\n  two  spaces \t\r\n日本語 e\u0301 \u200d\x00")
@example(" leading and trailing ")
@example("it 's , isn 't .")
def test_any_text_comes_back(text):
    assume(not any(name in text for name in ("<pad>", "<s>", "</s>")))
    assert trained().decode(ids(text), skip_special_tokens=True) == text
    assert b"".join(token_bytes(trained())[t] for t in ids(text)) == text.encode()


def test_the_name_of_a_special_token_stands_for_it():
    assert ids("a</s>b") == [*ids("a"), 2, *ids("b")]


def test_saved_and_loaded_it_is_the_same(tmp_path):
    trained().save_pretrained(str(tmp_path))
    loaded = load_tokenizer(tmp_path)
    text = CORPUS[17] + "🙂 it 's"
    assert loaded.encode(text, add_special_tokens=False) == ids(text)
    assert loaded.decode(ids(text)) == text
    assert loaded.eos_token_id == 2 and len(loaded) == 320


def test_training_again_gives_the_same():
    assert train_bpe(CORPUS, 320).get_vocab() == trained().get_vocab()


def test_a_vocabulary_that_cannot_hold_the_bytes_is_a_user_error():
    with pytest.raises(UserError, match=r"config\.tokenizer\.vocab=299"):
        train_bpe(CORPUS, 299)


def test_tokenizers_that_cannot_be_loaded_are_user_errors(tmp_path):
    with pytest.raises(UserError, match=r"config\.tokenizer\.path=.*no tokenizer can be loaded") as error:
        load_tokenizer(tmp_path / "nowhere")
    assert "\n" not in str(error.value)
    for damaged in ("{}", "{", ""):
        (tmp_path / "tokenizer.json").write_text(damaged)
        with pytest.raises(UserError, match=r"config\.tokenizer\.path=.*no tokenizer can be loaded"):
            load_tokenizer(tmp_path)


def test_a_tokenizer_without_end_of_text_is_a_user_error(tmp_path):
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(tokenizer_object=trained().backend_tokenizer).save_pretrained(str(tmp_path))
    with pytest.raises(UserError, match="no end-of-text token"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("fault", ["a prefix longer than an entry", "a length that is no number"])
def test_a_fault_that_the_libraries_do_not_expect_is_a_user_error(tmp_path, fault):
    trained().save_pretrained(tmp_path)
    path = tmp_path / ("tokenizer.json" if "prefix" in fault else "tokenizer_config.json")
    found = json.loads(path.read_text())
    if "prefix" in fault:
        found["model"]["continuing_subword_prefix"] = "#" * 50  # the Rust library panics
    else:
        found["model_max_length"] = [1]
    path.write_text(json.dumps(found))
    with pytest.raises(UserError, match=r"config\.tokenizer\.path=.*no tokenizer can be loaded"):
        load_tokenizer(tmp_path)

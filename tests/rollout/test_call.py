"""`generate`: a rollout in one call, and the layout of its input."""

import jax
import numpy as np
import pytest
from models.tiny import policy, policy_params
from rollout.test_program import EOS, LENGTHS, NEW, PROMPTS, WIDTH, sample

from stepjax.parallel import make_mesh
from stepjax.rollout import RolloutShape, Sampler, generate, request

TEXTS = [PROMPTS[i, WIDTH - n :].tolist() for i, n in enumerate(LENGTHS)]


def test_it_samples_what_the_program_samples():
    rows = generate(policy(), policy_params(), TEXTS, jax.random.key(7), new_tokens=NEW, eos=EOS, width=WIDTH)
    whole = sample(range(8))
    np.testing.assert_array_equal(rows.tokens, whole.tokens)
    np.testing.assert_allclose(rows.logprobs, whole.logprobs, atol=1e-5)
    assert rows.prompt_width == WIDTH and rows.response_length.tolist() == whole.response_length.tolist()


def test_responses_to_one_prompt_lie_next_to_each_other_on_any_mesh():
    key, sizes = jax.random.key(3), {"new_tokens": NEW, "eos": EOS, "samples": 4, "sampler": Sampler(0.7)}
    one = generate(policy(), policy_params(), TEXTS[:2], key, **sizes)
    mesh = make_mesh(4, 1, 1, devices=jax.devices()[:4])
    many = generate(policy(), policy_params(), TEXTS[:2], key, **sizes, mesh=mesh)
    np.testing.assert_array_equal(one.tokens, many.tokens)
    width = max(map(len, TEXTS[:2]))
    for i in range(8):
        prompt = one.tokens[i, width - one.prompt_length[i] : width]
        assert prompt.tolist() == TEXTS[i // 4]
    assert len({row.tobytes() for row in np.asarray(one.tokens)}) > 4, "each has a key of its own"


def test_prompts_that_do_not_fit_are_refused():
    for prompts in ([[1, 2, 3]], [[1], []], []):
        with pytest.raises(ValueError, match="prompts: each must have 1 to 2 tokens"):
            generate(policy(), {}, prompts, jax.random.key(0), new_tokens=4, eos=EOS, width=2)


def test_a_request_lists_the_prompts_of_each_device_once():
    shape = RolloutShape(4, 5, 9)
    tokens, lengths, queue = request([[1, 10, 11, 12], [1, 11], [1, 11, 10]], [2, 0, 2], np.arange(3), None, shape, 2)
    assert tokens.tolist() == [[0, 0, 1, 11, 10], [0, 1, 10, 11, 12], [0, 0, 1, 11, 10], [0] * 5]
    assert lengths.tolist() == [3, 4, 3, 0] and tokens.dtype == lengths.dtype == np.int32
    assert queue.prompt.tolist() == [0, 1, 0, 0] and queue.limit.tolist() == [9, 9, 9, 0]
    with pytest.raises(ValueError, match="5 rows, but the rollout is compiled for 4"):
        request([[1]], [0] * 5, np.arange(5), None, shape, 2)
